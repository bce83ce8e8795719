"""The installed command as a process of its own, and what it may leave behind."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qmptests.builds import Build

#: In the environment of the command and so of all that it starts: strays are found by it.
MARK = "QMPTESTS_FAULTS"
MODULE = ("-m", "qmptests.cli.main")
#: Seconds after the command's end until the last of what it started must be gone.
GONE_S = 10.0


@dataclass(frozen=True)
class Ended:
    """How the command ended, and how long that took from `finish` on."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def error_lines(self) -> list[str]:
        """What it said on stderr, without what belongs to a line above (indented)."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return [line for line in lines if not line.startswith(" ")]

    def said(self, status: int, beginning: str) -> None:
        """Assert: this exit status, and one line on stderr that begins so."""
        assert (self.status, len(self.error_lines)) == (status, 1), self
        assert self.error_lines[0].startswith(f"qmptests: error: {beginning}"), self


class Command:
    """A running `qmptests`, in a session and a temporary directory of its own."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        scratch: Path,
        python: Sequence[str] = MODULE,
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> None:
        self.mark = secrets.token_hex(8)
        self.folder = folder
        self.scratch = scratch
        folder.mkdir(exist_ok=True)
        scratch.mkdir(exist_ok=True)
        self.popen = subprocess.Popen(
            [*wrapper, sys.executable, *python, *arguments],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(self.scratch), MARK: self.mark, **(env or {})},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            start_new_session=True,
        )

    def interrupt(self, number: signal.Signals) -> None:
        """As a terminal does it: to the whole process group."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, number)

    def listens_to_signals(self) -> bool:
        """Whether the entry point has taken SIGTERM over; before that, it is Python's own time."""
        try:
            lines = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        except OSError:
            return True
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds or the command has ended."""
        deadline = time.monotonic() + 30
        while self.popen.poll() is None and not condition():
            assert time.monotonic() < deadline, f"waited for {what}"
            time.sleep(0.002)

    def running(self) -> dict[int, str]:
        """The living processes of this command, itself included: pid and command line."""
        found = {}
        entry = f"{MARK}={self.mark}".encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    if entry in (process / "environ").read_bytes().split(b"\0"):
                        words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(process.name)] = words.decode(errors="replace")
                except OSError:
                    continue
        return found

    def find(self, who: str) -> int | None:
        """The pid of the launcher, of a side's QEMU or of a side's supervisor, if it runs."""
        for pid, words in self.running().items():
            qemu = "socket,id=qmp" in words and "-machine none" not in words
            is_it = {
                "owner": pid == self.popen.pid,
                "launcher": "launcher.py" in words,
                "source": qemu and "-incoming" not in words,
                "destination": qemu and "-incoming" in words,
                "source-supervisor": "start.py 5 source" in words,
                "destination-supervisor": "start.py 5 destination" in words,
            }
            if is_it[who]:
                return pid
        return None

    def finish(self, timeout: float = 60.0) -> Ended:
        """Wait for its end; nothing that it started may outlive it, nor its scratch directory."""
        began = time.monotonic()
        out, err = self.popen.communicate(timeout=timeout)
        ended = Ended(self.popen.returncode, out, err, time.monotonic() - began)
        deadline = time.monotonic() + GONE_S
        while (left := self.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not left, f"{left} is left of {ended}"
        for word in ("Traceback", "Exception ignored"):
            assert word not in (err or ""), err
        return ended

    def leftovers(self) -> list[str]:
        """Its processes and its scratch directory, as far as they are still there."""
        return [*self.running().values(), *(p.name for p in self.scratch.glob("qmptests*"))]

    def clean_up(self) -> None:
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)
        self.popen.kill()
        self.popen.communicate()


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `qmptests ARGUMENTS`, each in a new folder that is its working directory too."""
    commands: list[Command] = []
    # Not below tmp_path: a UNIX socket's path holds 107 characters only.
    with tempfile.TemporaryDirectory() as scratch:

        def launch(*arguments: object, **how: Any) -> Command:
            number = str(len(commands))
            words = [str(argument) for argument in arguments]
            how.setdefault("scratch", Path(scratch, number))
            commands.append(Command(words, tmp_path / number, **how))
            return commands[-1]

        yield launch
        for command in commands:
            command.clean_up()


@pytest.fixture
def migrate(start: Start, source_build: "Build", destination_build: "Build") -> Start:
    """Starts `qmptests migrate` between the two builds, quietly, with evidence in `out`."""

    def launch(*arguments: object, **how: Any) -> Command:
        sides = ("--source", source_build.spec, "--destination", destination_build.spec)
        return start("migrate", "--quiet", *sides, "--output", "out", *arguments, **how)

    return launch


@pytest.fixture
def namespace() -> Callable[..., tuple[str, ...]]:
    """What to put before a command that is to have mounts of its own, or the test is skipped.

    Root may have them nearly everywhere, an ordinary user where user namespaces are allowed.
    """

    def prefix(*more: str) -> tuple[str, ...]:
        user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        words = ("unshare", *user, "--mount", *more)
        try:
            subprocess.run([*words, "true"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no mount namespace for this user here")
        return words

    return prefix
