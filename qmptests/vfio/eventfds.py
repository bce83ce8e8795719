"""Event descriptors (eventfd(2)) that a program has given for its devices' interrupts.

They are the program's own open files: it may have filled them up, read them empty, or made them
without O_NONBLOCK, at any moment. So nothing here waits on one, and none of their flags is changed.
"""

import contextlib
import errno
import os
import select
import signal
from collections.abc import Iterator

from qmptests.vfio.sources import spare

#: What the kernel calls each of them (fs/eventfd.c).
_NAME = "anon_inode:[eventfd]"
#: Seconds after which a call that waits is interrupted.
_SOON = 0.01


class EventDescriptors:
    """Those of one device; `interrupts.Events`.

    `unmask`: the descriptor that `poll` has while INTx can be unmasked by an event, else -1.
    """

    def __init__(self, poll: "select.poll") -> None:
        self.unmask = -1
        self._poll = poll
        self._watched = -1
        self._writes: select.epoll | None = None

    def accept(self, descriptor: int) -> int:
        """The same. Raises OSError, and closes it: EINVAL if it is no event descriptor, ENOMEM if
        there are too many.
        """
        try:
            spare(descriptor)
            if os.readlink(f"/proc/self/fd/{descriptor}") != _NAME:  # noqa: PTH115 - no pathlib here
                raise OSError(errno.EINVAL, "not an event descriptor")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def signal(self, descriptor: int) -> None:
        """Add one. To one that is full nothing can be added: it tells of an event already."""
        if _ready(descriptor, select.POLLOUT):
            with _without_waiting():
                os.eventfd_write(descriptor, 1)

    def watch(self, descriptor: int) -> None:
        """Have `poll` hear of each write to it: not of what is in it, which may take many reads
        to be used up (EFD_SEMAPHORE).
        """
        self._watched = descriptor
        self._writes = select.epoll()
        self._writes.register(descriptor, select.EPOLLIN | select.EPOLLET)
        self.unmask = self._writes.fileno()
        self._poll.register(self.unmask, select.POLLIN)

    def drop(self, descriptor: int) -> None:
        """Close it."""
        if descriptor == self._watched and self._writes is not None:
            self._poll.unregister(self.unmask)
            self._writes.close()
            self._writes, self._watched, self.unmask = None, -1, -1
        os.close(descriptor)

    def unmasked(self) -> bool:
        """Whether INTx is to be unmasked, as not when this was last asked."""
        if self._writes is None or not self._writes.poll(0):
            return False
        if _ready(self._watched, select.POLLIN):
            with _without_waiting():
                os.eventfd_read(self._watched)
        return True


def _ready(descriptor: int, event: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return any(events & event for _, events in poll.poll(0))


@contextlib.contextmanager
def _without_waiting() -> Iterator[None]:
    """One call of `os.eventfd_read` or `os.eventfd_write`, which end with EINTR if they wait.

    It was ready just now; meanwhile the program, or one of its threads, may have been there.
    """
    if signal.getsignal(signal.SIGALRM) is not _ignore:
        signal.signal(signal.SIGALRM, _ignore)
    signal.setitimer(signal.ITIMER_REAL, _SOON, _SOON)
    try:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ignore(*_: object) -> None:
    """A signal handler: Python makes the calls that one interrupts anew, but for those two."""
