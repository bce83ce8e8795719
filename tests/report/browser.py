"""A real headless browser, Debian's Chromium, told what to do through a pipe.

    python -m tests.report.browser PAGE.html PICTURE.png [--dark] [--open ID] [--size 1280x900]

What it is told is the DevTools protocol (chromedevtools.github.io/devtools-protocol): JSON, a zero
byte after each message, on descriptors 3 and 4 of the browser. One that is installed is taken; else
Debian's package is unpacked into the cache, which needs no root.
"""

import argparse
import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmptests import packages

NAMES = ("chromium", "chromium-headless-shell", "google-chrome")
#: Where it comes from if none is installed.
SUITE, PACKAGES = "trixie", ["chromium-headless-shell", "fonts-dejavu-core"]
TIMEOUT_S = 60.0
#: It wants descriptors 3 and 4, which may be one of ours.
_START = """
import fcntl, os, sys
ours = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, place in zip(ours, (3, 4)):
    os.dup2(number, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def command(scratch: Path) -> list[str]:
    """The browser's command line so far. `scratch`: an empty folder that lives as long as it."""
    for name in NAMES:
        if found := shutil.which(name):
            return [found]
    root = packages.fetch(SUITE, PACKAGES, progress=lambda _: None).root
    home, libraries = root / "usr/lib/chromium", root / "usr/lib/x86_64-linux-gnu"
    # Its data are looked for beside the program that runs, which is the loader.
    loader = scratch / "loader"
    shutil.copy2(root / "usr/lib64/ld-linux-x86-64.so.2", loader)
    for file in home.iterdir():
        (scratch / file.name).symlink_to(file)
    places = [libraries, home, *(libraries / name for name in ("pulseaudio", "blas", "lapack"))]
    return [
        *("env", f"FONTCONFIG_SYSROOT={root}", str(loader)),
        *("--library-path", ":".join(map(str, places)), str(home / "chromium-headless-shell")),
        # It can't start itself again through the loader: all is one process.
        *("--single-process", "--no-zygote"),
    ]


class Browser:
    """One browser with one page."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        #: What happened on the page since it was opened.
        self.events: list[dict[str, Any]] = []
        page = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> Any:
        """Have it do something; returns the answer. Raises RuntimeError if it says no."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(f"an answer to {method}")
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, what: str) -> dict[str, Any]:
        until = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._rest:
            if not select.select([self._back], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(f"the browser did not send {what} in {TIMEOUT_S:.0f} s")
            data = os.read(self._back, 1 << 20)
            if not data:
                raise RuntimeError(f"the browser ended; it was to send {what}")
            self._rest += data
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        if "method" in message:
            self.events.append(message)
        return message

    def open_only(self, file: Path, fragment: str = "") -> None:
        """Show a page anew and wait until it is loaded."""
        for url in ("about:blank", f"{file.resolve().as_uri()}{fragment}"):
            self.events.clear()
            self.tell("Page.navigate", url=url)
            while all(event["method"] != "Page.loadEventFired" for event in self.events):
                self._receive(f"the end of loading {url}")

    def open(self, file: Path, fragment: str = "") -> None:
        """Show a page and wait until its charts are drawn."""
        self.open_only(file, fragment)
        self.wait_for("!document.querySelector('.chart') || document.documentElement.dataset.drawn")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression on the page is true; raises RuntimeError after a while."""
        limit = 1000 * TIMEOUT_S
        self.evaluate(
            "new Promise((done, fail) => { const began = performance.now();"
            f"const look = () => ({condition}) ? done(true)"
            f" : performance.now() - began > {limit} ? fail(new Error('it did not come'))"
            " : setTimeout(look, 10); look(); })"
        )

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page, awaited if it is a promise."""
        answer = self.tell(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def media(self, kind: str = "screen", scheme: str = "light") -> None:
        """Show pages as on a screen or printed, to somebody who likes it light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell("Emulation.setEmulatedMedia", media=kind, features=features)

    def size(self, width: int, height: int) -> None:
        """The window's."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def press(self, key: str, text: str = "") -> None:
        """A key, by its name."""
        codes = {"Tab": 9, "Enter": 13}
        more = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.tell(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **more,
            )

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"])

    def errors(self) -> list[str]:
        """What the page did wrong: exceptions, and what was logged as an error."""
        return [
            json.dumps(event["params"])
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (
                event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error"
            )
        ]

    def asked_for(self) -> list[str]:
        """Addresses that the page wanted something from."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block."""
    told, to = os.pipe()
    back, says = os.pipe()
    with tempfile.TemporaryDirectory() as profile, tempfile.TemporaryDirectory() as scratch:
        line = [
            *command(Path(scratch)),
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
            f"--user-data-dir={profile}",
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(told), str(says), *line],
            pass_fds=(told, says),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(told)
        os.close(says)
        try:
            yield Browser(to, back)
        finally:
            os.close(to)
            os.close(back)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--open", default="", metavar="ID")
    parser.add_argument("--size", default="1280x900")
    options = parser.parse_args()
    with browser() as one:
        one.media(scheme="dark" if options.dark else "light")
        one.size(*map(int, options.size.split("x")))
        one.open(options.page, f"#{options.open}" if options.open else "")
        one.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300)))")
        options.picture.write_bytes(one.picture())


if __name__ == "__main__":
    main()
