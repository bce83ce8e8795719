"""The parent of a supervisor that nobody owns (`qmptests vfio run`): whichever of the two dies,
nothing outlives it that the command has started, however it detached.

Standard library only.
"""

import contextlib
import os
import signal
import sys
from types import FrameType

from qmptests import reaping
from qmptests.vfio import alone, interpose, syscalls


def divide(unlink: str) -> int:
    """Go on as a child of this process, which stays as its guard and ends as the child does.

    Returns, in the child, a descriptor that becomes readable when the guard has died. `unlink`: a
    file that the child removes at its end, or "". For a process with one thread that has blocked
    the signals in `interpose.TAKEN`.
    """
    guard = os.pidfd_open(os.getpid())
    reads, writes = os.pipe()
    child = os.fork()
    # Both get the orphans of those below them (prctl(2)): there may be only one left of the two.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    if child == 0:
        os.close(writes)
        os.read(reads, 1)  # the end of file: whatever came before the fork has been handed on
        os.close(reads)
        return guard
    for number in signal.sigpending() & set(interpose.TAKEN):
        os.kill(child, number)
    os.close(reads)
    os.close(writes)
    status = _follow(child)
    for line in reaping.end_descendants():
        alone.say(f"error: {line}")
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):
            os.unlink(unlink)
        name = signal.Signals(os.WTERMSIG(status)).name
        alone.say(f"error: the supervisor was killed by {name}, and the command with it")
    sys.exit(alone.status_of(status, ()))


def _follow(child: int) -> int:
    """Hand on what comes for this process, until the child ends; its wait status."""
    pidfd = os.pidfd_open(child)  # its number is another's once it has been waited for

    def hand_on(number: int, frame: FrameType | None = None) -> None:  # noqa: ARG001
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    for number in interpose.TAKEN:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interpose.TAKEN)
    while True:
        ended, status = os.waitpid(-1, 0)  # orphans as well
        if ended == child:
            return status
