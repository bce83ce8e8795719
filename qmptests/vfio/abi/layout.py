"""How a structure of the kernel's lies in memory."""

import struct
from functools import partial
from typing import Generic, TypeVar

from qmptests.vfio import abi_filter

VFIO_H = "linux/vfio.h"
IOMMUFD_H = "linux/iommufd.h"
SECCOMP_H = "linux/seccomp.h"
KVM_H = "linux/kvm.h"
FS_H = "linux/fs.h"

#: So that all of it is in one place: what the filter needs lives on its own.
IOC_TYPE = abi_filter.IOC_TYPE
KVM_SET_DEVICE_ATTR = abi_filter.KVM_SET_DEVICE_ATTR
SET_MODE_FILTER = abi_filter.SET_MODE_FILTER
FILTER_NEW_LISTENER = abi_filter.FILTER_NEW_LISTENER
FILTER_WAIT_KILLABLE_RECV = abi_filter.FILTER_WAIT_KILLABLE_RECV
RET_USER_NOTIF = abi_filter.RET_USER_NOTIF
RET_ALLOW = abi_filter.RET_ALLOW

R = TypeVar("R", bound=tuple[int, ...])


class Layout(Generic[R]):
    """How a record of integers lies in memory: a C structure without its variable tail.

    `codes` are those of `struct`, one for each field; an `x` is a byte that belongs to no field.
    A field that a tuple already has a method for is spelt with an underscore (`index_`, `count_`).
    """

    def __init__(self, record: type[R], c_name: str, header: str, codes: str) -> None:
        self.record = record
        self.c_name = c_name
        self.header = header
        self.fields: tuple[str, ...] = record._fields  # type: ignore[attr-defined]
        self._struct = struct.Struct("<" + codes)
        self._make = partial(tuple.__new__, record)  # as its `_make`, which is slower
        self.size = self._struct.size
        self.codes = codes

    def unpack(self, data: bytes) -> R:
        """The record; what `data` is too short for is zero, as for an older caller's structure."""
        if len(data) < self.size:
            data = data.ljust(self.size, b"\0")
        return self._make(self._struct.unpack_from(data))

    def pack(self, record: R) -> bytes:
        """Its bytes."""
        return self._struct.pack(*record)

    def offsets(self) -> dict[str, int]:
        """Bytes from the start to each field."""
        starts = (
            struct.calcsize("<" + self.codes[:number])
            for number, code in enumerate(self.codes)
            if code != "x"
        )
        return {name.rstrip("_"): start for name, start in zip(self.fields, starts, strict=True)}

    def until(self, field: str) -> int:
        """Bytes up to what follows `field`."""
        starts = [*self.offsets().values(), self.size]
        return starts[self.fields.index(field) + 1]
