"""This machine as a host: the owner's end of the launcher."""

import asyncio
import atexit
import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmptests import eventloop, places, removal
from qmptests.errors import EnvironmentFailure
from qmptests.hosts import launcher, life
from qmptests.hosts.process import ExitStatus, Process, is_stopped
from qmptests.hosts.strays import MARKER, PROCESS_MARKER, complain, kill_strays
from qmptests.hosts.waiting import WaitTimeout, wait

#: Bytes in a socket's path (unix(7): 108 with the end mark).
SUN_PATH = 107
#: Longest temporary directory in which the path of a socket still fits.
TMPDIR_BYTES = 62
#: Seconds for a process to be started; a disk may be slow.
START_S = 30.0
#: Seconds for a launcher to end: it kills what it owns, and waits for it (reaping.KILLED_S).
END_S = 15.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A spawn that the launcher has not answered yet."""

    name: str
    argv: list[str]
    output: Path | None
    answer: "asyncio.Future[Process]"


class LocalHost:
    """Spawns processes through one launcher. Use `local()`; methods run on the event loop."""

    name = "localhost"

    def __init__(self) -> None:
        self.marker = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.scratch = _temporary_directory() / f"qmptests-{self.marker}"
        #: Where processes run that are spawned without `cwd`.
        self.cwd = Path()
        self._socket: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._stderr = -1
        self._ids = 0
        self._pending: dict[int, _Pending] = {}
        self._processes: dict[int, Process] = {}
        #: Those who wait for a sign of life, by number.
        self._alive: dict[int, asyncio.Future[None]] = {}
        self._writable = asyncio.Event()
        self._partial: set[Path] = set()
        self._dead: EnvironmentFailure | None = None
        self._ready: asyncio.Future[None]
        self._starting = asyncio.Lock()

    @property
    def dead(self) -> EnvironmentFailure | None:
        """What became of the launcher, and of all that it owned, if it is dead."""
        return self._dead

    async def start(self) -> None:
        """Start the launcher; the second call does nothing."""
        async with self._starting:
            if self._dead is not None:
                raise self._dead
            if self._socket is not None:
                return
            remove_stale_scratch()
            try:
                self._socket = self._fork_launcher()
            except OSError as error:
                raise EnvironmentFailure(f"cannot start the launcher: {error.strerror}") from error
            ours = self._socket
            self._ready = _future()
            asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable)
            with self._expected():
                await wait(self._ready, what="the launcher to start", timeout=START_S)

    def _fork_launcher(self) -> socket.socket:
        """Start it; returns our end of its socket. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, _own_stderr() as stderr:
                self.cwd = Path("/proc/self/cwd").readlink()
                self._stderr = os.memfd_create("launcher-stderr", os.MFD_CLOEXEC)
                self._popen = subprocess.Popen(
                    [
                        sys.executable,
                        *("-I", "-S", launcher.__file__),
                        str(theirs.fileno()),
                        str(self.scratch),
                        str(stderr),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=[theirs.fileno(), stderr],
                    start_new_session=True,
                    env={**os.environ, MARKER: self.marker},
                )
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        return ours

    async def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        fds: Mapping[int, int] | None = None,
        output: Path | None = None,
    ) -> Process:
        """Start `argv` and return once it has been exec'ed.

        `fds` maps the number that the child sees to a descriptor of ours, which stays ours to
        close; 0, 1 and 2 are /dev/null unless given. `output`: a file to which standard output
        and error are appended. `env` is added to this process's environment. Raises
        EnvironmentFailure when it can't be started.
        """
        await self.start()
        assert self._socket is not None
        with contextlib.ExitStack() as stack:
            table = dict(fds or {})
            if output is not None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                try:
                    fd = os.open(output, flags, 0o600)
                except OSError as error:
                    raise EnvironmentFailure(f"cannot write {output}: {error.strerror}") from error
                stack.callback(os.close, fd)
                table.setdefault(1, fd)
                table.setdefault(2, fd)
            self._ids += 1
            identity = self._ids
            request = {
                "spawn": identity,
                "argv": list(argv),
                "env": {**os.environ, **(env or {}), **self._markers(identity)},
                "cwd": str(cwd) if cwd else "",
                "fds": list(table),
            }
            pending = _Pending(name, list(argv), output, _future())
            self._pending[identity] = pending
            try:
                with self._expected():
                    await self._send(request, list(table.values()))
                    what = f"{name} to be started"
                    return await wait(pending.answer, what=what, timeout=START_S)
            except OSError as error:
                raise EnvironmentFailure(
                    f"cannot start {name}: {argv[0]}: {os.strerror(error.errno or 0)}"
                ) from error
            finally:
                self._pending.pop(identity, None)

    def adopt(
        self, name: str, argv: Sequence[str], pid: int, pidfd: int, parent: Process
    ) -> Process:
        """A process that one of ours started and reaps: what is to be told of its end, `ended`.

        If `parent` dies it becomes the launcher's, which reports its end as of any other.
        """
        process = Process(name, list(argv), pid, pidfd, parent.output, parent.identity)
        self._processes[pid] = process
        process.exited.add_done_callback(lambda _: self._processes.pop(pid, None))
        return process

    def _markers(self, identity: int) -> dict[str, str]:
        return {MARKER: self.marker, PROCESS_MARKER: f"{self.marker}-{identity}"}

    def begun(self, folder: Path) -> None:
        """A folder of evidence: should this process be killed, the launcher says where it is."""
        self._partial.add(folder)
        self._tell_partial()

    def finished(self, folder: Path) -> None:
        """It needs no such care any more."""
        self._partial.discard(folder)
        self._tell_partial()

    def _tell_partial(self) -> None:
        if self._socket is not None:
            told = {"partial": sorted(str(folder) for folder in self._partial)}
            with contextlib.suppress(OSError):  # it is dead, or hangs: that comes out elsewhere
                self._socket.send(json.dumps(told).encode())

    def kill_with_descendants(self, process: Process) -> None:
        """SIGKILL a process and all that it started and that still has its environment.

        Others are killed when the host closes. Its supervisor has that environment, too, and is
        still to report.
        """
        process.signal(signal.SIGKILL)
        others = self._processes.keys() - {process.pid}
        kill_strays(f"{self.marker}-{process.identity}", PROCESS_MARKER, others)

    def new_socket_path(self) -> Path:
        """A path for a UNIX socket in the scratch directory: results folders are too long.

        Raises EnvironmentFailure if even this is.
        """
        path = self.scratch / f"{os.urandom(4).hex()}.sock"
        if len(os.fsencode(path)) > SUN_PATH:
            raise EnvironmentFailure(
                f"{path} is too long for a UNIX socket ({SUN_PATH} bytes at most): set "
                "TMPDIR to a shorter directory"
            )
        return path

    async def answer(self) -> None:
        """Returns when the launcher gives a sign of life; at once where there is none."""
        if self._socket is None:
            return
        self._ids += 1
        alive = self._alive[self._ids] = _future()
        try:
            await self._send({"alive": self._ids}, [])
            await alive
        except EnvironmentFailure:
            return  # it is dead, as everybody knows now
        finally:
            self._alive = {number: a for number, a in self._alive.items() if a is not alive}

    def lose(self, why: str) -> None:
        """Kill the launcher, which did not answer, and all that it owned."""
        if self._socket is not None:
            assert self._popen is not None
            self._popen.kill()
            self._on_launcher_death(f"{why} and was killed")

    @contextlib.contextmanager
    def _expected(self) -> Iterator[None]:
        """The launcher does in a moment what is asked of it here, if it lives."""
        with contextlib.closing(life.Guard(lambda: [self])) as guard:
            guard.expect(life.MOMENT_S)
            try:
                yield
            except WaitTimeout as error:
                raise EnvironmentFailure(str(error)) from error

    async def _send(self, message: dict[str, object], fds: list[int]) -> None:
        data = json.dumps(message).encode()
        while True:
            if self._dead is not None or self._socket is None:
                raise self._dead or EnvironmentFailure("the launcher is not running")
            try:
                socket.send_fds(self._socket, [data], fds)
            except BlockingIOError:
                await self._room()
            except (BrokenPipeError, ConnectionResetError):
                self._on_launcher_death()
            except OSError as error:
                raise EnvironmentFailure(
                    f"cannot hand a command of {len(data)} bytes to the launcher: {error.strerror}"
                ) from error
            else:
                return

    async def _room(self) -> None:
        """Returns when the launcher has read something, or is dead."""
        assert self._socket is not None
        loop, fd = asyncio.get_running_loop(), self._socket.fileno()
        self._writable = asyncio.Event()
        loop.add_writer(fd, self._writable.set)
        try:
            await wait(self._writable.wait(), what="the launcher to read", timeout=START_S)
        finally:
            if self._socket is not None:
                loop.remove_writer(fd)

    def _on_readable(self) -> None:
        while self._socket is not None:
            try:
                data, fds = launcher.receive(self._socket)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, fds = b"", []
            if not data:
                self._on_launcher_death()
                return
            self._on_message(json.loads(data), fds)

    def _on_message(self, message: dict[str, int], fds: list[int]) -> None:
        if "exited" in message:
            status = ExitStatus(
                returncode=os.waitstatus_to_exitcode(message["status"]),
                core_dumped=os.WCOREDUMP(message["status"]),
                cpu_s=message["cpu_s"],
                max_rss_kib=message["max_rss_kib"],
            )
            process = self._processes.pop(message["exited"], None)
            if process is not None:  # else an orphan that the launcher reaped
                process.ended(status)
        elif "alive" in message:
            alive = self._alive.get(message["alive"])
            if alive is not None and not alive.done():
                alive.set_result(None)
        elif "ready" in message:
            if not self._ready.done():  # who waited for it may have been interrupted
                self._ready.set_result(None)
        elif "failed" in message:
            pending = self._pending.get(message["failed"])
            if pending is not None and not pending.answer.done():
                number = message["errno"]
                pending.answer.set_exception(OSError(number, os.strerror(number)))
        else:
            pid, (pidfd,) = message["pid"], fds
            pending = self._pending.get(message["spawned"])
            if pending is None or pending.answer.done():  # its caller gave up: nobody wants it
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
            else:
                process = Process(
                    *(pending.name, pending.argv, pid, pidfd, pending.output, message["spawned"])
                )
                self._processes[pid] = process
                pending.answer.set_result(process)

    def _on_launcher_death(self, why: str = "died") -> None:
        """The launcher is dead: an error in everything that it owned."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._writable.set()
        self._socket.close()
        self._socket = None
        said = self._said()
        self._reap_launcher()
        reason = f": {said[-1]}" if said else ""
        self._dead = EnvironmentFailure(
            f"the launcher {why}, and all its processes with it{reason}"
        )
        if not self._ready.done():
            self._ready.set_exception(self._dead)
        for alive in self._alive.values():
            if not alive.done():
                alive.set_exception(self._dead)
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(self._dead)
        for process in self._processes.values():
            process.ended(None, self._dead)
        self._processes.clear()

    def close(self) -> None:
        """End the launcher, and with it every process; returns when nothing is left.

        Not from the loop's thread. In a forked child it does nothing: the launcher is its parent's.
        """
        if self.marker.partition("-")[0] == str(os.getpid()):
            eventloop.run(self._hang_up())
            self._reap_launcher()

    async def _hang_up(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _reap_launcher(self) -> None:
        """Wait for the launcher, which is dead or dying; kill it if it does not hurry."""
        if self._popen is not None:
            if not self._ends(life.SILENT_S) and (
                is_stopped(self._popen.pid) or not self._ends(END_S - life.SILENT_S)
            ):
                self._popen.kill()
                self._ends(life.SILENT_S)
            if self._popen.returncode != 0:  # killed: what it would have done falls to us
                kill_strays(self.marker)
                removal.remove_private(str(self.scratch))
            else:
                for line in self._said():
                    complain(line)
            self._popen = None
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def _ends(self, seconds: float) -> bool:
        """Whether the launcher ends in that time."""
        assert self._popen is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=seconds)
        return self._popen.returncode is not None

    def _said(self) -> list[str]:
        """What the launcher has written on its standard error."""
        return os.pread(self._stderr, 1 << 16, 0).decode(errors="replace").strip().splitlines()


@contextlib.contextmanager
def _own_stderr() -> Iterator[int]:
    """A second descriptor of our standard error, or of nothing if that is closed."""
    try:
        fd = os.dup(2)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _temporary_directory() -> Path:
    """`$TMPDIR` or what stands for it, if sockets there have a short path and are out of reach.

    Others could replace what is in a folder of theirs, or in one without the sticky bit. Where no
    place is better than that, it has to do. Raises EnvironmentFailure where none can be written.
    """
    try:
        wanted = Path(tempfile.gettempdir()).absolute()
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"{error.strerror}: free some space, or set TMPDIR") from error
    usual = (wanted, Path("/tmp"), Path("/var/tmp"))  # noqa: S108
    short = [path for path in usual if len(os.fsencode(path)) <= TMPDIR_BYTES]
    usable = [path for path in short if os.access(path, os.W_OK | os.X_OK)]
    safe = (path for path in usable if not places.exposed(path, sticky=True))
    return next(safe, usable[0] if usable else wanted)


def remove_stale_scratch() -> None:
    """Remove scratch directories whose launcher was killed together with its owner.

    A launcher holds a lock (flock(2)) on its directory while it lives. Others can write where we
    look: only what is a folder of ours alone is touched, and no link is followed.
    """
    for path in map(str, _temporary_directory().glob("qmptests-*-" + "[0-9a-f]" * 12)):
        with contextlib.suppress(OSError):
            folder = removal.open_private(path)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                removal.remove_opened(path, folder)
            finally:
                os.close(folder)


def _future() -> "asyncio.Future[Any]":
    """One that may end with an error that nobody awaits: asyncio must not complain about that."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


_local: LocalHost | None = None


def local() -> LocalHost:
    """This machine, with one launcher for the whole process; call on the event loop.

    A launcher that died is replaced: what it owned has failed already.
    """
    global _local  # noqa: PLW0603 - one launcher per process is the point
    owner = _local.marker.partition("-")[0] if _local else ""
    if _local is None or owner != str(os.getpid()) or _local._dead is not None:
        _local = LocalHost()
        atexit.register(_local.close)
    return _local
