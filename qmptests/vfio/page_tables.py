"""Requests on an iommufd's page tables, their dirty bits, and the IOMMU of a device.

Checks, and their order, are those of drivers/iommu/iommufd/hw_pagetable.c and device.c (Linux 7.3),
with an IOMMU that has neither nested page tables nor PASIDs nor anything to tell of itself.
"""

import errno
from collections.abc import Callable

from qmptests.vfio import abi
from qmptests.vfio.abi import HwCapability, HwptFlag
from qmptests.vfio.answering import ends, refuse, respond
from qmptests.vfio.calls import MOST_IGNORED, Call, Caller, Detail
from qmptests.vfio.iommu import Bound, Iommu, PageTable
from qmptests.vfio.iova import PAGE
from qmptests.vfio.tracking import DirtyPages

_ALLOC_FLAGS = int(HwptFlag.DIRTY_TRACKING | HwptFlag.FAULT_ID_VALID)
#: How many bytes are zeroed in one go.
_PIECE = 1 << 20
#: IOMMU_HWPT_INVALIDATE_ENTRY_NUM_MAX
_MOST_ENTRIES = 1 << 19
#: VEVENTQ_MAX_DEPTH
_MOST_EVENTS = 1 << 19


def _alloc(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    wanted: abi.HwptAlloc = call.argument
    refuse(wanted.reserved)
    if bool(wanted.data_len) != bool(wanted.data_type):
        raise OSError(errno.EINVAL, "data without a type, or a type without data")
    device = iommu.get(wanted.dev_id, Bound)
    ioas = iommu.objects.get(wanted.pt_id)
    if ioas is None or isinstance(ioas, Bound):
        raise OSError(errno.EINVAL, f"{wanted.pt_id} is no address space")
    refuse(wanted.flags & ~_ALLOC_FLAGS or wanted.data_type)
    tracking = bool(wanted.flags & HwptFlag.DIRTY_TRACKING)
    if isinstance(ioas, PageTable) or (tracking and not device.dirty_tracking):
        raise OSError(errno.EOPNOTSUPP, "not with this IOMMU")
    iommu.admit(ioas)
    try:
        if wanted.flags & HwptFlag.FAULT_ID_VALID:
            raise OSError(errno.ENOENT, f"there is no queue of faults {wanted.fault_id}")
        respond(caller, call, abi.HWPT_ALLOC, wanted._replace(out_hwpt_id=iommu.free_id()))
    except OSError:
        iommu.relax(ioas)
        raise
    return (("id", iommu.add(PageTable(ioas, DirtyPages() if tracking else None))),)


def _hw_info(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """Of an IOMMU that has nothing to tell: no data, and the buffer for it zeroed."""
    wanted: abi.HwInfo = call.argument
    refuse(wanted.flags & ~abi.HW_INFO_INPUT_TYPE)
    refuse(wanted.reserved_0 | wanted.reserved_1 | wanted.reserved_2)
    device = iommu.get(wanted.dev_id, Bound)
    length = min(wanted.data_len, MOST_IGNORED)
    for at in range(0, length, _PIECE):
        caller.write(wanted.data_uptr + at, bytes(min(_PIECE, length - at)))
    can = int(HwCapability.DIRTY_TRACKING) if device.dirty_tracking else 0
    answer = wanted._replace(
        data_len=0, out_data_type=0, out_max_pasid_log2=0, out_capabilities=can
    )
    respond(caller, call, abi.HW_INFO, answer)
    return (("capabilities", can),)


def _invalidate(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """Of a nested page table, which there is none of; the count is written back all the same."""
    wanted: abi.Invalidate = call.argument
    respond(caller, call, abi.INVALIDATE, wanted._replace(entry_num=0))
    refuse(wanted.reserved)
    described = wanted.data_uptr and 0 < wanted.entry_len <= PAGE
    if wanted.entry_num and not (described and wanted.entry_num <= _MOST_ENTRIES):
        raise OSError(errno.EINVAL, "no data")
    if wanted.hwpt_id not in iommu.objects:
        raise OSError(errno.ENOENT, f"no object {wanted.hwpt_id}")
    raise OSError(errno.EINVAL, f"{wanted.hwpt_id} is no nested page table")


def _viommu_alloc(iommu: Iommu, call: Call, _: Caller) -> Detail:
    """No IOMMU of ours has a part that could be lent to a guest."""
    wanted: abi.ViommuAlloc = call.argument
    refuse(wanted.flags or not wanted.type)
    iommu.get(wanted.dev_id, Bound)
    raise OSError(errno.EOPNOTSUPP, "not with this IOMMU")


def _of_viommu(_: Iommu, call: Call, __: Caller) -> Detail:
    """Of such a part, which there is none of."""
    wanted = call.argument
    if isinstance(wanted, abi.VeventqAlloc):
        refuse(wanted.flags or wanted.reserved or not wanted.type)
        if not 0 < wanted.veventq_depth <= _MOST_EVENTS:
            raise OSError(errno.EINVAL, f"no depth: {wanted.veventq_depth}")
    elif isinstance(wanted, abi.HwQueueAlloc):
        refuse(wanted.flags or not wanted.type)
        ends(wanted.nesting_parent_iova, wanted.length)
    raise OSError(errno.ENOENT, f"no object {wanted.viommu_id}")


# --- dirty bits ---------------------------------------------------------------------------------


def _set_dirty_tracking(iommu: Iommu, call: Call, _: Caller) -> Detail:
    wanted: abi.DirtyTracking = call.argument
    refuse(wanted.flags & ~abi.DIRTY_TRACKING_ENABLE)
    dirty = _dirty_bits(iommu.get(wanted.hwpt_id, PageTable))
    dirty.stop()
    if wanted.flags:
        dirty.start()
    return ()


def _dirty_bitmap(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """The range must be aligned to pages of its own size and of the IOMMU's
    (iommufd_check_iova_range). It is looked at as far as it is mapped, and not at all if nothing
    is tracked: iommu_read_and_clear_dirty leaves the errors of that unsaid.
    """
    wanted: abi.DirtyBitmap = call.argument
    refuse(wanted.flags & ~abi.DIRTY_BITMAP_NO_CLEAR or wanted.reserved)
    table = iommu.get(wanted.hwpt_id, PageTable)
    ends(wanted.iova, wanted.length)
    end = wanted.iova + wanted.length
    if not wanted.page_size or any(
        number & (size - 1)
        for number in (wanted.iova, end)
        for size in (table.ioas.space.limits.alignment, wanted.page_size)
    ):
        raise OSError(errno.EINVAL, "unaligned")
    dirty = _dirty_bits(table)
    length = table.ioas.space.mapped_length(wanted.iova, wanted.length)
    if not dirty.active or not length:
        return (("words", 0),)
    size = wanted.page_size & -wanted.page_size
    clear = not wanted.flags & abi.DIRTY_BITMAP_NO_CLEAR
    words = dirty.deliver(caller, wanted.data, wanted.iova, length, size, clear=clear, smallest=1)
    return (("words", words),)


def _dirty_bits(table: PageTable) -> DirtyPages:
    if table.dirty is None:
        raise OSError(errno.EOPNOTSUPP, "a page table without dirty bits")
    return table.dirty


REQUESTS: dict[str, Callable[[Iommu, Call, Caller], Detail]] = {
    "hwpt-alloc": _alloc,
    "hw-info": _hw_info,
    "hwpt-invalidate": _invalidate,
    "viommu-alloc": _viommu_alloc,
    **dict.fromkeys(("vdevice-alloc", "veventq-alloc", "hw-queue-alloc"), _of_viommu),
    "set-dirty-tracking": _set_dirty_tracking,
    "dirty-bitmap": _dirty_bitmap,
}
