"""The descriptor numbers that a program sees its devices on. They are part of the filter.

A number only says which calls are notified. Whether it stands for one of our files is asked at each
call (`files`): a program may close, duplicate and open what it likes.
"""

import os

#: The iommufd that all devices share.
IOMMUFD = 200
_DEVICES = 201
#: Devices in one VM.
MOST = 8
#: Migration data is on numbers below this one, or below the limit of open files if that is less:
#: as far away as they can be from the lowest free ones, which a program takes by itself, and within
#: what select(2) can have.
_TOP = 1024
#: So many are kept for migration data: a program may leave old ones open.
_KEPT = 64
#: The least limit of open files.
ENOUGH = 256
#: Of open(2): neither for reading nor for writing; ioctl(2) needs no more.
_NEITHER = os.O_RDWR | os.O_WRONLY


def device(number: int) -> int:
    """The descriptor of the VM's `number`th device, from 0."""
    return _DEVICES + number


def devices(count: int) -> range:
    """The descriptors of that many devices."""
    return range(_DEVICES, _DEVICES + count)


def data(limit: int) -> range:
    """The numbers for migration data of a program that may have `limit` open files; -1 for any."""
    top = min(_TOP, limit) if limit >= 0 else _TOP
    return range(max(top - _KEPT, _DEVICES + MOST), top)


def nothing(name: str) -> int:
    """A file that can neither be read nor written (EBADF), and is no other one; our descriptor."""
    file = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        return os.open(f"/proc/self/fd/{file}", _NEITHER | os.O_CLOEXEC)
    finally:
        os.close(file)
