"""The launcher: the one process that forks, signals and reaps everything else.

Run as ``python -I -S launcher.py SOCKET_FD SCRATCH OWNERS_STDERR_FD``. Standard library only,
single-threaded, and nothing imported that isn't needed: it must start in milliseconds and is also
what is carried to a remote host. It forks because no process with threads may: the parent-death
signal belongs to the forking *thread* (prctl(2)), and its owner has threads.

The owner talks to it over a SOCK_SEQPACKET socket, one JSON object a packet. Owner to launcher:

    {"spawn": ID, "argv", "env", "cwd", "fds"}, with the descriptors as SCM_RIGHTS in the order of
    "fds", which are the numbers that the child sees them as
    {"alive": ID}: asks for a sign of life
    {"partial": [FOLDER, ...]}: all folders of evidence that the owner has begun, and not finished

Launcher to owner:

    {"ready": PID}
    {"alive": ID}, at once
    {"spawned": ID, "pid"}, with a pidfd
    {"failed": ID, "stage": "fork" or "exec", "errno"}
    {"exited": PID, "status", "cpu_s", "max_rss_kib"}

At end of file on that socket, or when the owner dies, it kills and reaps until it has no child
left, removes the scratch directory, and exits. Being a child subreaper (prctl(2)) it also gets
the orphans of its children, however they detached. What it may not kill it names on standard
error, and if the owner is dead on the owner's; there the partial folders, too.
"""

import array
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from qmptests import printable, reaping, removal

PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
MAX_PACKET = 1 << 18
#: Milliseconds from a dying owner's closing its files to its end.
DYING_MS = 1000
#: Signals by which people and sessions end things.
OWNERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAX_FDS = 253  # SCM_MAX_FD, include/net/scm.h

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def prctl(option: int, value: int) -> None:
    if _prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and the descriptors that came with it; empty at end of file."""
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(
        MAX_PACKET, socket.CMSG_SPACE(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


class Command:
    """What a child becomes: made before the fork, after which each page that is touched costs."""

    def __init__(self, request: dict[str, object]) -> None:
        self.argv = [os.fsencode(str(a)) for a in request["argv"]]  # type: ignore[attr-defined]
        environment: dict[str, str] = request["env"]  # type: ignore[assignment]
        self.env = {os.fsencode(k): os.fsencode(v) for k, v in environment.items()}
        self.cwd = str(request["cwd"])
        self.targets = [int(n) for n in request["fds"]]  # type: ignore[attr-defined]


def become(command: Command, fds: list[int], launcher_pid: int, report: int) -> None:
    """In the child: arrange descriptors and signals, then exec. Returns only by raising OSError."""
    # First the death signal, then the comparison: a launcher that died in between is noticed.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher_pid:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for ours in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, *OWNERS):
        signal.signal(ours, signal.SIG_DFL)
    targets = command.targets
    # Out of the way first: a received descriptor may sit on another one's wanted number.
    floor = max([*targets, 2]) + 1
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor) for fd in fds]
    report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, floor)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        if number not in targets:
            os.dup2(null, number)
    for fd, number in zip(high, targets, strict=True):
        os.dup2(fd, number)
    try:
        if command.cwd:
            os.chdir(command.cwd)
        os.execvpe(command.argv[0], command.argv, command.env)
    except OSError as error:
        os.write(report, str(error.errno).encode())
        os._exit(127)


class Launcher:
    def __init__(self, sock: socket.socket, scratch: str) -> None:
        self.sock = sock
        self.scratch = scratch
        self.pid = os.getpid()
        self.partial: list[str] = []
        self.poll = select.poll()
        #: Forked and not known to have exec'ed: the end of a pipe on which each reports -> who.
        self.starting: dict[int, tuple[object, int, int]] = {}

    def send(self, message: dict[str, object], fds: tuple[int, ...] = ()) -> None:
        """To the owner; one that is gone is noticed at the next receive."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.sock, [json.dumps(message).encode()], fds)

    def obey(self, request: dict[str, object], fds: list[int]) -> None:
        """Do what the owner's packet asks for."""
        if "alive" in request:
            self.send({"alive": request["alive"]})
        elif "partial" in request:
            self.partial = [str(folder) for folder in request["partial"]]  # type: ignore[attr-defined]
        else:
            self.spawn(request, fds)

    def spawn(self, request: dict[str, object], fds: list[int]) -> None:
        """Fork and exec; `settle` answers once the exec has happened or failed."""
        identity, command = request["spawn"], Command(request)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(read_end)
            os.close(write_end)
            self.send({"failed": identity, "stage": "fork", "errno": error.errno})
            return
        if pid == 0:
            try:
                become(command, fds, self.pid, write_end)
            except BaseException as error:  # noqa: BLE001 - nothing may escape from a forked child
                number = getattr(error, "errno", None) or errno.EINVAL
                with contextlib.suppress(OSError):
                    os.write(write_end, str(number).encode())
            os._exit(127)
        os.close(write_end)
        pidfd = os.pidfd_open(pid)  # not reaped before we say so: the number can't be reused
        self.starting[read_end] = (identity, pid, pidfd)
        self.poll.register(read_end, select.POLLIN)

    def settle(self, read_end: int) -> None:
        """Answer for a child that has exec'ed (its end of the pipe is closed) or could not."""
        identity, pid, pidfd = self.starting.pop(read_end)
        self.poll.unregister(read_end)
        problem = os.read(read_end, 16)
        os.close(read_end)
        if problem:
            self.send({"failed": identity, "stage": "exec", "errno": int(problem)})
        else:
            self.send({"spawned": identity, "pid": pid}, (pidfd,))
        os.close(pidfd)

    def reap(self) -> bool:
        """Collect every child that has ended and report it; False once there is none at all."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            # Its start is told before its end; the owner does not know of others, and ignores them.
            for read_end in [r for r, (_, child, _) in self.starting.items() if child == pid]:
                self.settle(read_end)
            self.send(
                {
                    "exited": pid,
                    "status": status,
                    "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
                    "max_rss_kib": usage.ru_maxrss,
                }
            )

    def serve(self, wakeup: int, owner: int) -> None:
        """Until the owner closes its end or dies."""
        for fd in (self.sock.fileno(), wakeup, owner):
            self.poll.register(fd, select.POLLIN)
        while True:
            ready = dict(self.poll.poll())
            for read_end in self.starting.keys() & ready.keys():
                self.settle(read_end)
            if wakeup in ready:
                os.read(wakeup, 512)
                self.reap()
            if self.sock.fileno() in ready:
                try:
                    data, fds = receive(self.sock)
                except ConnectionResetError:
                    return
                if not data:
                    return
                self.obey(json.loads(data), fds)
                for fd in fds:
                    os.close(fd)
            if owner in ready:
                return


def make_scratch(path: str) -> int:
    """Make the scratch directory; returns its descriptor, which holds a lock on it (flock(2)).

    One that has no lock is taken for abandoned. Between the two steps somebody may do so: then it
    is made again. Raises OSError.
    """
    while True:
        os.mkdir(path, 0o700)
        try:
            folder = removal.open_private(path)
        except FileNotFoundError:
            continue
        fcntl.flock(folder, fcntl.LOCK_EX)
        if removal.is_at(path, folder):
            return folder
        os.close(folder)


def say_left(left: list[str], partial: list[str], owner: int, owner_stderr: int) -> None:
    """Tell the owner what still runs; if it is dead, whoever reads its standard error.

    That one hears of the partial folders, too.
    """
    left = [printable.one_line(line) for line in left]  # programs choose their own names
    sys.stderr.writelines(f"{line}\n" for line in left)
    poll = select.poll()
    poll.register(owner, select.POLLIN)
    if not poll.poll(DYING_MS if partial else 0):
        return
    lines = left + [
        f"the command died; what there is of the evidence is in {printable.one_line(folder)}"
        for folder in partial
        if os.path.isdir(folder)
    ]
    poll.unregister(owner)
    poll.register(owner_stderr, select.POLLOUT)  # nobody may read it
    if dict(poll.poll(0)).get(owner_stderr) == select.POLLOUT:
        for line in lines:
            os.write(owner_stderr, f"qmptests: error: {line}\n".encode(errors="replace"))


def main() -> None:
    parent = os.getppid()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    owner_stderr = int(sys.argv[3])
    os.set_inheritable(owner_stderr, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # A person's Ctrl-C, the end of his session and a lab's `kill -TERM` are the owner's to handle;
    # we follow it.
    for number in OWNERS:
        signal.signal(number, signal.SIG_IGN)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    launcher = Launcher(sock, sys.argv[2])
    owner, lock = os.pidfd_open(parent), make_scratch(launcher.scratch)
    try:
        launcher.send({"ready": os.getpid()})
        launcher.serve(read_end, owner)
    finally:
        # From here on a child that ends is waited for, not signalled.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        left = reaping.end_descendants()
        with contextlib.suppress(OSError):
            removal.remove_opened(launcher.scratch, lock)
        if left or launcher.partial:
            say_left(left, launcher.partial, owner, owner_stderr)


if __name__ == "__main__":
    main()
