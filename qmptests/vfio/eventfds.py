"""QEMU's event descriptors, taken over so that a device can interrupt its guest."""

import contextlib
import os
import select

from qmptests.vfio import syscalls
from qmptests.vfio.abi import Irq
from qmptests.vfio.calls import EventFds


class EventDescriptors:
    """Duplicates of those that QEMU gave for each vector (pidfd_getfd(2)).

    `unmask`: the one that unmasks INTx when it is written (KVM does that in QEMU's place), or -1;
    `poll` hears of it.
    """

    def __init__(self, poll: "select.poll") -> None:
        self.unmask = -1
        self._poll = poll
        self._taken: dict[tuple[int, int], int] = {}
        self._pidfd = -1

    def take(self, given: EventFds, process: int) -> None:
        """Take over what QEMU gave, or let go of what it took away. Raises OSError."""
        if given.unmask:
            self._drop_unmask()
            if given.numbers[0] >= 0:
                self.unmask = self._take(process, given.numbers[0])
                self._poll.register(self.unmask, select.POLLIN)
            return
        if not given.numbers:
            for irq, vector in [key for key in self._taken if key[0] == given.irq]:
                self._drop(irq, vector)
            if given.irq == Irq.INTX:
                self._drop_unmask()
        for vector, number in enumerate(given.numbers, given.start):
            self._drop(given.irq, vector)
            if number >= 0:
                self._taken[given.irq, vector] = self._take(process, number)

    def _take(self, process: int, number: int) -> int:
        if self._pidfd < 0:
            self._pidfd = os.pidfd_open(process)
        return syscalls.take_descriptor(self._pidfd, number)

    def _drop(self, irq: int, vector: int) -> None:
        descriptor = self._taken.pop((irq, vector), -1)
        if descriptor >= 0:
            os.close(descriptor)

    def _drop_unmask(self) -> None:
        if self.unmask >= 0:
            self._poll.unregister(self.unmask)
            os.close(self.unmask)
            self.unmask = -1

    def signal(self, irq: int, vector: int) -> None:
        """Write a vector's descriptor, if there is one."""
        descriptor = self._taken.get((irq, vector), -1)
        if descriptor >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(descriptor, 1)

    def unmasked(self) -> bool:
        """Whether `unmask` was written since this was last asked."""
        try:
            return os.eventfd_read(self.unmask) > 0
        except BlockingIOError:
            return False
