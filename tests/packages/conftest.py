"""A small Debian archive of our own, served over HTTP to the machine's real apt."""

import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qmptests.packages import apt


class Archive:
    """Packages are built with dpkg-deb; suites are published unsigned, and trusted as such."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        self.corrupt = False
        self.hold: threading.Event | None = None
        self.held = threading.Event()
        self._built: dict[str, list[str]] = {}

    def build(self, suite: str, name: str, version: str, depends: str = "") -> Path:
        """Add a package to a suite; it has a file with its version, and awkward ones."""
        tree = self.root / "build" / f"{name}_{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: us\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += "Description: a package of the tests\n"
        (tree / "DEBIAN" / "control").write_text(control)
        share = tree / "usr" / "share" / name
        share.mkdir(parents=True)
        (share / "version").write_text(version)
        (share / "setuid").write_text("")
        (share / "setuid").chmod(0o4555)
        (share / "closed").mkdir()
        (share / "closed" / "inside").write_text("")
        (share / "closed").chmod(0o500)
        sums = [
            f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"  # noqa: S324
            for path in sorted(share.rglob("*"))
            if path.is_file()
        ]
        (tree / "DEBIAN" / "md5sums").write_text("".join(sums))
        pool = self.root / "www" / "debian" / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        deb = pool / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(deb)],
            check=True,
            capture_output=True,
        )
        stanza = control + (
            f"Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
            f"SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n"
        )
        self._built.setdefault(suite, []).append(stanza)
        return deb

    def publish(self, suite: str, architecture: str) -> None:
        """Write the suite's index, newest state only."""
        folder = self.root / "www" / "debian" / "dists" / suite
        index = folder / "main" / f"binary-{architecture}" / "Packages"
        index.parent.mkdir(parents=True, exist_ok=True)
        data = "\n".join(self._built[suite]).encode()
        index.write_bytes(data)
        (folder / "Release").write_text(
            f"Suite: {suite}\nCodename: {suite}\nArchitectures: {architecture}\n"
            "Components: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
            f" {hashlib.sha256(data).hexdigest()} {len(data)} "
            f"main/binary-{architecture}/Packages\n"
        )

    def withdraw(self, suite: str) -> None:
        """Forget the suite's packages and their files, as a mirror does with superseded ones."""
        self._built[suite] = []
        for deb in (self.root / "www" / "debian" / "pool").iterdir():
            deb.unlink()

    def asked_for(self, ending: str) -> Sequence[str]:
        """The requests so far whose path has this ending."""
        return [path for path in self.requests if path.endswith(ending)]


def _handler(archive: Archive) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            archive.requests.append(self.path)
            path = archive.root / "www" / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            if path.suffix == ".deb" and archive.corrupt:
                data = data[:-1] + bytes([data[-1] ^ 1])
            if path.suffix == ".deb" and archive.hold is not None:
                archive.held.set()
                archive.hold.wait(60)
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                pass  # the client was killed

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - base's name
            pass

    return Handler


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """`tea` needs `water`, in the suites `leaf` and `twig`; the cache is empty."""
    if shutil.which("apt-get") is None:
        pytest.skip("this machine has no apt")
    made = Archive(tmp_path / "archive")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    server.daemon_threads = True
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        f"Types: deb\nURIs: http://127.0.0.1:{server.server_address[1]}/debian\n"
        "Suites: leaf\nComponents: main\nTrusted: yes\n"
    )
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::sourceparts "{parts}/";\nDir::Etc::sourcelist "/dev/null";\n'
        f'APT::Update::Post-Invoke-Success {{ "touch {tmp_path}/hook-has-run"; }};\n'
        'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    monkeypatch.setenv("QMPTESTS_CACHE", str(tmp_path / "cache"))
    apt.machine.cache_clear()
    architecture = apt.machine().architecture
    for suite in ("leaf", "twig"):
        made.build(suite, "water", f"1-{suite}")
        made.build(suite, "tea", f"2-{suite}", depends="water")
        made.publish(suite, architecture)
    yield made
    if made.hold is not None:
        made.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()
    apt.machine.cache_clear()
