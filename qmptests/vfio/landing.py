"""Where a device's data arrives: a memfd whose memory is had before QEMU comes with the data.

Memory that nobody has touched yet costs a page fault for each page, and in a virtual machine often
one of its host's as well: writes to it reach 350 MB/s where others reach 10 GB/s (measured on a
virtual machine with 24 GiB).
"""

import contextlib
import fcntl
import os

from qmptests.vfio import syscalls

#: Bytes that are had at a time.
PIECE = 4 << 20
#: No more than this is had beforehand: a profile may say 1T and the migration be cancelled.
MOST = 2 << 30
FALLOC_FL_KEEP_SIZE = 1
# linux/fcntl.h
F_ADD_SEALS = 1033
F_SEAL_SHRINK = 0x2
F_SEAL_FUTURE_WRITE = 0x10


class Landing:
    """`fd`: the memfd, empty at first. `expected`: bytes that are likely to arrive."""

    def __init__(self, name: str, expected: int) -> None:
        self.fd = os.memfd_create(f"resuming-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_SHRINK)
        self._expected = min(expected, MOST)
        self._had = 0

    @property
    def ready(self) -> bool:
        """Whether there is memory for all that is expected."""
        return self._had >= self._expected

    def prepare(self) -> bool:
        """Have a piece of the memory; whether there was any to have.

        fallocate(2) takes a page, and touches it when it finds it taken already (mm/shmem.c).
        """
        if self.ready:
            return False
        length = min(PIECE, self._expected - self._had)
        with contextlib.suppress(OSError):  # it only saves time
            for _ in ("take", "touch"):
                syscalls.fallocate(self.fd, FALLOC_FL_KEEP_SIZE, self._had, length)
        self._had += length
        return True

    def seal(self) -> None:
        """Let nothing more arrive: from now on write(2) is EPERM.

        Unless the program itself has forbidden more seals.
        """
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)

    @property
    def length(self) -> int:
        """Bytes that have arrived."""
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)
