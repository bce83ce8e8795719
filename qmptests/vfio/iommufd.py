"""An iommufd: what QEMU asks of an IOMMU by ioctl.

Answers are Linux's (linux/iommufd.h; drivers/iommu/iommufd), but for IOAS_CHANGE_PROCESS, which
is unknown as it was before Linux 6.14.
"""

import errno
from collections.abc import Callable
from typing import Any

from qmptests.vfio import abi
from qmptests.vfio.abi import HwCapability, HwptFlag, MapFlag
from qmptests.vfio.calls import Answer, Call, Detail, Memory
from qmptests.vfio.iommu import Bound, Ioas, Iommu, PageTable
from qmptests.vfio.iova import LAST, Mapping
from qmptests.vfio.tracking import PAGE, DirtyPages

_Request = Callable[[Call, Memory], Detail]
# Plain numbers: "~" of an IntFlag leaves out the bits that have no name.
_ACCESS = int(MapFlag.READABLE | MapFlag.WRITEABLE)
_MAP_FLAGS = _ACCESS | int(MapFlag.FIXED_IOVA)


class Iommufd(Iommu):
    """One /dev/iommu that is open."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: dict[str, _Request] = {
            "ioas-alloc": self._ioas_alloc,
            "ioas-iova-ranges": self._iova_ranges,
            "ioas-map": self._map,
            "ioas-map-file": self._map,
            "ioas-unmap": self._unmap,
            "hwpt-alloc": self._hwpt_alloc,
            "hw-info": self._hw_info,
            "set-dirty-tracking": self._set_dirty_tracking,
            "dirty-bitmap": self._dirty_bitmap,
            "destroy": self._destroy,
        }

    def handle(self, call: Call, memory: Memory, now: float) -> Answer:  # noqa: ARG002
        """Answer a request on the iommufd itself; nothing here depends on time."""
        if call.errno:
            return Answer(errno=call.errno)
        request = self._requests.get(call.name)
        if request is None:
            return Answer(errno=errno.ENOTTY)
        try:
            return Answer(detail=request(call, memory))
        except OSError as error:
            return Answer(errno=error.errno or errno.EIO)

    # --- address spaces -------------------------------------------------------------------------

    def _ioas_alloc(self, call: Call, memory: Memory) -> Detail:
        wanted: abi.IoasAlloc = call.argument
        _refuse(wanted.flags)
        _respond(memory, call, abi.IOAS_ALLOC, wanted._replace(out_ioas_id=self.free_id()))
        return (("id", self.add(Ioas())),)

    def _iova_ranges(self, call: Call, memory: Memory) -> Detail:
        wanted: abi.IovaRanges = call.argument
        _refuse(wanted.reserved)
        space = self.get(wanted.ioas_id, Ioas).space
        ranges = [abi.IOVA_RANGE.pack(abi.IovaRange(*extent)) for extent in space.allowed()]
        if fitting := b"".join(ranges[: wanted.num_iovas]):
            memory.write(wanted.allowed_iovas, fitting)
        answer = wanted._replace(num_iovas=len(ranges), out_iova_alignment=space.limits.alignment)
        _respond(memory, call, abi.IOVA_RANGES, answer)
        if len(ranges) > wanted.num_iovas:
            raise OSError(errno.EMSGSIZE, f"{len(ranges)} ranges")
        return (("ranges", len(ranges)),)

    def _map(self, call: Call, memory: Memory) -> Detail:
        """Of QEMU's memory, or of a file. What is mapped anew is clean."""
        wanted: abi.IoasMap | abi.IoasMapFile = call.argument
        if isinstance(wanted, abi.IoasMap):
            layout: abi.Layout[Any] = abi.IOAS_MAP
            address, file = wanted.user_va, -1
            _refuse(wanted.reserved)
        else:
            layout = abi.IOAS_MAP_FILE
            address, file = wanted.start, wanted.fd
        _refuse(wanted.flags & ~_MAP_FLAGS)
        _fits(wanted.iova, wanted.length)
        if not wanted.flags & _ACCESS:
            raise OSError(errno.EINVAL, "neither readable nor writable")
        ioas = self.get(wanted.ioas_id, Ioas)
        fixed = wanted.flags & MapFlag.FIXED_IOVA
        iova = wanted.iova if fixed else ioas.space.find(wanted.length)
        writable = bool(wanted.flags & MapFlag.WRITEABLE)
        readable = bool(wanted.flags & MapFlag.READABLE)
        ioas.space.map(Mapping(iova, wanted.length, address, writable, readable, file))
        for table in self.tables(ioas).values():
            if table.dirty is not None:
                table.dirty.forget(iova, wanted.length)
        _respond(memory, call, layout, wanted._replace(iova=iova))
        return () if fixed else (("mapped", iova),)

    def _unmap(self, call: Call, memory: Memory) -> Detail:
        wanted: abi.IoasUnmap = call.argument
        space = self.get(wanted.ioas_id, Ioas).space
        if (wanted.iova, wanted.length) == (0, LAST):
            taken = space.unmap(0, LAST + 1) if space.all() else []
        else:
            _fits(wanted.iova, wanted.length)
            taken = space.unmap(wanted.iova, wanted.length)
        unmapped = sum(mapping.length for mapping in taken)
        _respond(memory, call, abi.IOAS_UNMAP, wanted._replace(length=unmapped))
        return (("unmapped", unmapped),)

    # --- page tables ----------------------------------------------------------------------------

    def _hwpt_alloc(self, call: Call, memory: Memory) -> Detail:
        wanted: abi.HwptAlloc = call.argument
        _refuse(wanted.reserved)
        if bool(wanted.data_len) != bool(wanted.data_type):
            raise OSError(errno.EINVAL, "data without a type, or a type without data")
        device = self.get(wanted.dev_id, Bound)
        ioas = self.objects.get(wanted.pt_id)
        if ioas is None or isinstance(ioas, Bound):
            raise OSError(errno.EINVAL, f"{wanted.pt_id} is no address space")
        _refuse(wanted.flags & ~int(HwptFlag.DIRTY_TRACKING) or wanted.data_type)
        if isinstance(ioas, PageTable) or (wanted.flags and not device.dirty_tracking):
            raise OSError(errno.EOPNOTSUPP, "not with this IOMMU")
        self.admit(ioas)
        _respond(memory, call, abi.HWPT_ALLOC, wanted._replace(out_hwpt_id=self.free_id()))
        return (("id", self.add(PageTable(ioas, DirtyPages() if wanted.flags else None))),)

    def _hw_info(self, call: Call, memory: Memory) -> Detail:
        """Of an IOMMU that has nothing to tell: no data, and the buffer for it zeroed."""
        wanted: abi.HwInfo = call.argument
        _refuse(wanted.flags)
        device = self.get(wanted.dev_id, Bound)
        if wanted.data_len:
            memory.write(wanted.data_uptr, bytes(wanted.data_len))
        can = int(HwCapability.DIRTY_TRACKING) if device.dirty_tracking else 0
        answer = abi.HwInfo(
            wanted.size, wanted.flags, wanted.dev_id, 0, wanted.data_uptr, 0, 0, can
        )
        _respond(memory, call, abi.HW_INFO, answer)
        return (("capabilities", can),)

    def _set_dirty_tracking(self, call: Call, memory: Memory) -> Detail:  # noqa: ARG002
        wanted: abi.DirtyTracking = call.argument
        _refuse(wanted.flags & ~abi.DIRTY_TRACKING_ENABLE or wanted.reserved)
        dirty = self._dirty_bits(self.get(wanted.hwpt_id, PageTable))
        dirty.stop()
        if wanted.flags:
            dirty.start()
        return ()

    def _dirty_bitmap(self, call: Call, memory: Memory) -> Detail:
        """The range must be aligned to pages of its own size and of the IOMMU's
        (iommufd_check_iova_range), and all of it mapped.
        """
        wanted: abi.DirtyBitmap = call.argument
        _refuse(wanted.flags & ~abi.DIRTY_BITMAP_NO_CLEAR or wanted.reserved)
        table = self.get(wanted.hwpt_id, PageTable)
        dirty = self._dirty_bits(table)
        _fits(wanted.iova + wanted.length - 1 if wanted.length else LAST)
        if (wanted.iova | wanted.length) % max(wanted.page_size, PAGE):
            raise OSError(errno.EINVAL, "unaligned")
        try:
            table.ioas.space.translate(wanted.iova, wanted.length)
        except OSError as error:
            raise OSError(errno.EINVAL, "not all of it is mapped") from error
        clear = not wanted.flags & abi.DIRTY_BITMAP_NO_CLEAR
        words = dirty.deliver(
            memory, wanted.data, wanted.iova, wanted.length, wanted.page_size, clear=clear
        )
        return (("words", words),)

    @staticmethod
    def _dirty_bits(table: PageTable) -> DirtyPages:
        if table.dirty is None:
            raise OSError(errno.EOPNOTSUPP, "a page table without dirty bits")
        return table.dirty

    def _destroy(self, call: Call, memory: Memory) -> Detail:  # noqa: ARG002
        wanted: abi.Destroy = call.argument
        self.destroy(wanted.id)
        return ()


def _refuse(unknown: int) -> None:
    """Raise OSError (EOPNOTSUPP) for bits that must be zero."""
    if unknown:
        raise OSError(errno.EOPNOTSUPP, f"{unknown:#x} has no meaning")


def _fits(*numbers: int) -> None:
    """Raise OSError (EOVERFLOW) for what reaches the last byte of 64 bits, or beyond."""
    if max(numbers) >= LAST:
        raise OSError(errno.EOVERFLOW, "past the end")


def _respond(memory: Memory, call: Call, layout: abi.Layout[Any], record: Any) -> None:
    """Write the structure back, as far as the caller has it."""
    memory.write(call.address, layout.pack(record)[: call.size])
