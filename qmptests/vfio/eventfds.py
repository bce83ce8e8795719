"""QEMU's event descriptors, taken over so that a device can interrupt its guest."""

import contextlib
import os

from qmptests.vfio import syscalls
from qmptests.vfio.abi import Irq
from qmptests.vfio.calls import EventFds


class EventDescriptors:
    """Duplicates of those that QEMU gave for each vector (pidfd_getfd(2))."""

    def __init__(self) -> None:
        self._taken: dict[tuple[int, int], int] = {}
        self._pidfd = -1

    def take(self, given: EventFds, process: int) -> None:
        """Take over what QEMU gave, or let go of what it took away. Raises OSError."""
        if given.unmask:
            return  # that QEMU unmasks changes nothing here: a vector is written, never masked
        if not given.numbers:
            for irq, vector in [key for key in self._taken if key[0] == given.irq]:
                self._drop(irq, vector)
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

    def interrupt(self, vector: int) -> None:
        """Interrupt the guest, by the best way that it has enabled: MSI-X, MSI or INTx.

        Raises ValueError if QEMU has not set that vector up.
        """
        for irq in (Irq.MSIX, Irq.MSI, Irq.INTX):
            if any(key[0] == irq for key in self._taken):
                descriptor = self._taken.get((irq, vector), -1)
                break
        else:
            raise ValueError("QEMU has set no interrupt up")
        if descriptor < 0:
            have = ", ".join(str(v) for i, v in sorted(self._taken) if i == irq)
            raise ValueError(f"QEMU has not set up {irq.name} {vector}: it has {have}")
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(descriptor, 1)
