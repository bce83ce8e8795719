"""The descriptor numbers that a program sees its devices on. They are part of the filter.

A number only says which calls are notified. Whether it stands for one of our files is asked at each
call (`files`): a program may close, duplicate and open what it likes.
"""

import fcntl
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
#: Bytes that a device's regions take, 1 TiB each: a device has nine (VFIO_PCI_NUM_REGIONS).
_REGIONS = 9 << 40
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


def registers(name: str) -> int:
    """What a program has as a device's descriptor: all of its regions, as zeros; our descriptor.

    It has its size, and seals that nobody can add to, before the program has it.
    """
    file = os.memfd_create(f"vfio-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(file, _REGIONS)
    fcntl.fcntl(
        file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    )
    return file


def reopened(descriptor: int) -> int:
    """The same file with flags and a position of its own (F_SETFL, lseek(2)), for us alone."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)


def nothing(name: str) -> int:
    """A file that can neither be read nor written (EBADF), and is no other one; our descriptor."""
    file = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        return os.open(f"/proc/self/fd/{file}", _NEITHER | os.O_CLOEXEC)
    finally:
        os.close(file)
