"""Start a command under the filter: fork, descriptors, filter, exec."""

import array
import os
import resource
import signal
import socket
from typing import NamedTuple

from qmptests.vfio import syscalls

#: By these a person or a session ends a command.
TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Child(NamedTuple):
    """The process that was started, and the listener of its filter."""

    pid: int
    listener: int


def start(argv: list[str], program: bytes, reserved: dict[int, int]) -> Child:
    """Exec `argv` under the filter; `reserved` maps numbers that it sees to descriptors of ours.

    It dies with us. What it inherits besides is what is inheritable. Signals that the caller has
    blocked, of those in `TAKEN`, reach it nevertheless. Raises OSError, with the errno of the step
    that failed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(argv, program, reserved, parent, theirs)
        except OSError as error:
            theirs.send((error.errno or 1).to_bytes(4, "little") + str(error).encode())
        finally:
            os._exit(127)
    theirs.close()
    with ours:
        listener, said = -1, b"?"
        while said:  # the end of file comes with the exec
            said, ancillary, _, _ = ours.recvmsg(
                4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
            for _, _, payload in ancillary:
                listener = array.array("i", payload)[0]
            if said[4:]:
                os.waitpid(pid, 0)
                if listener >= 0:
                    os.close(listener)
                raise OSError(int.from_bytes(said[:4], "little"), said[4:].decode())
    return Child(pid, listener)


def _allow(number: int) -> None:
    """Raise the limit of open files, if need be, so that a descriptor can have that number."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files <= number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number + 1, most))


def _become(
    argv: list[str],
    program: bytes,
    reserved: dict[int, int],
    parent: int,
    channel: socket.socket,
) -> None:
    """In the child. Returns only by raising OSError."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(127)
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ours, signal.SIG_DFL)
    for terminal in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(terminal) is not signal.SIG_IGN:  # as under nohup
            signal.signal(terminal, signal.SIG_DFL)
    _allow(max(reserved, default=0))
    for number, descriptor in reserved.items():
        os.dup2(descriptor, number)
    listener = syscalls.listen(program)
    socket.send_fds(channel, [b"\0\0\0\0"], [listener])
    os.close(listener)
    # What came since the fork is the command's: a handler of ours would have swallowed it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise OSError(error.errno, f"{argv[0]}: {error.strerror}") from error
