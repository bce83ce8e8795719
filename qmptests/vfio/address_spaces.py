"""Requests on an iommufd's address spaces, and what is mapped there.

Checks, and their order, are those of drivers/iommu/iommufd/ioas.c and io_pagetable.c (Linux 7.3).
"""

import errno
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

from qmptests.vfio import abi
from qmptests.vfio.abi import MapFlag, OptionId, OptionOp, VfioIoasOp
from qmptests.vfio.answering import ends, fits, refuse, respond
from qmptests.vfio.calls import Call, Caller, Detail, Memory
from qmptests.vfio.iommu import Ioas, Iommu, pin
from qmptests.vfio.iova import LAST, PAGE, Mapping

# Plain numbers: "~" of an IntFlag leaves out the bits that have no name.
_ACCESS = int(MapFlag.READABLE | MapFlag.WRITEABLE)
_MAP_FLAGS = _ACCESS | int(MapFlag.FIXED_IOVA)
#: Ranges that one ALLOW_IOVAS may have here; a kernel has no limit but its memory.
MOST_ALLOWED = 1 << 16


def _alloc(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    wanted: abi.IoasAlloc = call.argument
    refuse(wanted.flags)
    respond(caller, call, abi.IOAS_ALLOC, wanted._replace(out_ioas_id=iommu.free_id()))
    return (("id", iommu.add(Ioas())),)


def _iova_ranges(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    wanted: abi.IovaRanges = call.argument
    refuse(wanted.reserved)
    space = iommu.get(wanted.ioas_id, Ioas).space
    ranges = [abi.IOVA_RANGE.pack(abi.IovaRange(*extent)) for extent in space.usable()]
    if fitting := b"".join(ranges[: wanted.num_iovas]):
        caller.write(wanted.allowed_iovas, fitting)
    answer = wanted._replace(num_iovas=len(ranges), out_iova_alignment=space.limits.alignment)
    respond(caller, call, abi.IOVA_RANGES, answer)
    if len(ranges) > wanted.num_iovas:
        raise OSError(errno.EMSGSIZE, f"{len(ranges)} ranges")
    return (("ranges", len(ranges)),)


def _allow_iovas(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    wanted: abi.AllowIovas = call.argument
    refuse(wanted.reserved)
    space = iommu.get(wanted.ioas_id, Ioas).space
    ranges: list[tuple[int, int]] = []
    for first, last in _ranges(caller, wanted.allowed_iovas, wanted.num_iovas):
        at = bisect_left(ranges, (first, last))
        before = at > 0 and ranges[at - 1][1] >= first
        after = at < len(ranges) and ranges[at][0] <= last
        if first >= last or before or after:
            raise OSError(errno.EINVAL, "no range, or one that overlaps another")
        ranges.insert(at, (first, last))
    space.allow(ranges)
    return (("ranges", len(ranges)),)


def _ranges(memory: Memory, address: int, count: int) -> Iterator[abi.IovaRange]:
    size = abi.IOVA_RANGE.size
    for number in range(min(count, MOST_ALLOWED)):
        yield abi.IOVA_RANGE.unpack(memory.read(address + number * size, size))
    if count > MOST_ALLOWED:
        raise OSError(errno.ENOMEM, "too many ranges")


# --- mapping ------------------------------------------------------------------------------------


def _map(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """Of the caller's memory."""
    wanted: abi.IoasMap = call.argument
    ioas = _mapped_ioas(iommu, wanted, wanted.reserved)
    if wanted.user_va + wanted.length > LAST:
        raise OSError(errno.EOVERFLOW, "past the end of memory")
    return _add(iommu, ioas, call, caller, abi.IOAS_MAP, wanted.user_va, caller.source)


def _map_file(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """Of a file that the caller has open."""
    wanted: abi.IoasMapFile = call.argument
    ioas = _mapped_ioas(iommu, wanted, 0)
    ends(wanted.start, wanted.length)
    source = caller.file(wanted.fd, wanted.start + wanted.length)
    return _add(iommu, ioas, call, caller, abi.IOAS_MAP_FILE, wanted.start, lambda: source)


def _mapped_ioas(iommu: Iommu, wanted: abi.IoasMap | abi.IoasMapFile, reserved: int) -> Ioas:
    """Where it is to be mapped, after what is checked before that is looked for."""
    refuse(wanted.flags & ~_MAP_FLAGS or reserved)
    fits(wanted.iova, wanted.length)
    if not wanted.flags & _ACCESS:
        raise OSError(errno.EINVAL, "neither readable nor writable")
    return iommu.get(wanted.ioas_id, Ioas)


def _add(
    iommu: Iommu,
    ioas: Ioas,
    call: Call,
    caller: Caller,
    layout: abi.Layout[Any],
    address: int,
    source: Callable[[], Any],
) -> Detail:
    """What is mapped anew is clean."""
    wanted = call.argument
    if wanted.length > LAST - PAGE:
        raise OSError(errno.EINVAL, "too long")
    iova = _place(ioas, wanted.flags, wanted.iova, wanted.length, address)
    writable = bool(wanted.flags & MapFlag.WRITEABLE)
    readable = bool(wanted.flags & MapFlag.READABLE)
    mapping = Mapping(iova, wanted.length, address, writable, readable, source(), writable)
    _enter(iommu, ioas, [mapping])
    respond(caller, call, layout, wanted._replace(iova=iova))
    return () if wanted.flags & MapFlag.FIXED_IOVA else (("mapped", iova),)


def _place(ioas: Ioas, flags: int, iova: int, length: int, address: int) -> int:
    """The iova that is asked for, or a free one."""
    ioas.space.check_length(length)
    return iova if flags & MapFlag.FIXED_IOVA else ioas.space.find(length, address)


def _enter(iommu: Iommu, ioas: Ioas, mappings: list[Mapping]) -> None:
    """Map what follows each other, and have it pinned if there is a page table."""
    ioas.space.map(*mappings)
    first, last = mappings[0].iova, mappings[-1].last
    tables = iommu.tables(ioas).values()
    try:
        for mapping in mappings if tables else ():
            pin(mapping)
    except OSError:
        ioas.space.unmap(first, last - first + 1)
        raise
    for table in tables:
        if table.dirty is not None:
            table.dirty.forget(first, last - first + 1)


def _copy(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """Map elsewhere what is mapped."""
    wanted: abi.IoasCopy = call.argument
    refuse(wanted.flags & ~_MAP_FLAGS)
    fits(wanted.length, wanted.src_iova, wanted.dst_iova)
    if not wanted.flags & _ACCESS:
        raise OSError(errno.EINVAL, "neither readable nor writable")
    source = iommu.get(wanted.src_ioas_id, Ioas).space
    ends(wanted.src_iova, wanted.length)
    try:
        pieces = source.translate(wanted.src_iova, wanted.length)
    except OSError as error:
        raise OSError(errno.ENOENT, "not all of it is mapped") from error
    ioas = iommu.get(wanted.dst_ioas_id, Ioas)
    iova = _place(ioas, wanted.flags, wanted.dst_iova, wanted.length, pieces[0].address)
    writable = bool(wanted.flags & MapFlag.WRITEABLE)
    readable = bool(wanted.flags & MapFlag.READABLE)
    moved = iova - wanted.src_iova
    copies = [
        piece._replace(iova=piece.iova + moved, writable=writable, readable=readable)
        for piece in pieces
    ]
    _enter(iommu, ioas, copies)
    respond(caller, call, abi.IOAS_COPY, wanted._replace(dst_iova=iova))
    return (("mapped", iova),)


def _unmap(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    wanted: abi.IoasUnmap = call.argument
    space = iommu.get(wanted.ioas_id, Ioas).space
    if (wanted.iova, wanted.length) == (0, LAST):
        taken = space.unmap(0, LAST + 1) if space.all() else []
    else:
        fits(wanted.iova, wanted.length)
        taken = space.unmap(wanted.iova, wanted.length)
    unmapped = sum(mapping.length for mapping in taken)
    respond(caller, call, abi.IOAS_UNMAP, wanted._replace(length=unmapped))
    return (("unmapped", unmapped),)


# --- what concerns all of them ------------------------------------------------------------------


def _change_process(iommu: Iommu, call: Call, _: Caller) -> Detail:
    """Another process is to be asked for what is mapped: it has the files, not the memory."""
    wanted: abi.ChangeProcess = call.argument
    refuse(wanted.reserved)
    spaces = [thing.space for thing in iommu.objects.values() if isinstance(thing, Ioas)]
    for mapping in (mapping for space in spaces for mapping in space.all()):
        if mapping.source is None or not mapping.source.is_file:
            raise OSError(errno.EINVAL, f"{mapping.iova:#x} is mapped, and of no file")
    return ()


def _option(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    wanted: abi.Option = call.argument
    refuse(wanted.reserved)
    if wanted.option_id == OptionId.RLIMIT_MODE:
        value = _rlimit_mode(iommu, wanted)
    elif wanted.option_id == OptionId.HUGE_PAGES:
        value = _huge_pages(iommu, wanted)
    else:
        raise OSError(errno.EOPNOTSUPP, f"no such option: {wanted.option_id}")
    respond(caller, call, abi.OPTION, wanted._replace(val64=value))
    return (("value", value),)


def _rlimit_mode(iommu: Iommu, wanted: abi.Option) -> int:
    """The option's value now. Who asks is taken for privileged."""
    refuse(wanted.object_id)
    if wanted.op == OptionOp.GET:
        return int(iommu.account_by_process)
    if wanted.op != OptionOp.SET:
        raise OSError(errno.EOPNOTSUPP, f"neither SET nor GET: {wanted.op}")
    if iommu.objects:
        raise OSError(errno.EBUSY, "there are objects already")
    iommu.account_by_process = _truth(wanted.val64)
    return wanted.val64


def _huge_pages(iommu: Iommu, wanted: abi.Option) -> int:
    """The same."""
    ioas = iommu.get(wanted.object_id, Ioas)
    if wanted.op == OptionOp.GET:
        return int(ioas.large_pages)
    if wanted.op != OptionOp.SET:
        raise OSError(errno.EOPNOTSUPP, f"neither SET nor GET: {wanted.op}")
    before, ioas.large_pages = ioas.large_pages, _truth(wanted.val64)
    try:
        if before and not ioas.large_pages and iommu.tables(ioas) and ioas.space.all():
            raise OSError(errno.EINVAL, "large pages may be in use")
        iommu.relax(ioas)
    except OSError:
        ioas.large_pages = before
        raise
    return wanted.val64


def _truth(value: int) -> bool:
    if value > 1:
        raise OSError(errno.EINVAL, f"neither 0 nor 1: {value}")
    return bool(value)


def _vfio_ioas(iommu: Iommu, call: Call, caller: Caller) -> Detail:
    """Which of them VFIO's own container requests mean."""
    wanted: abi.VfioIoas = call.argument
    refuse(wanted.reserved)
    if wanted.op == VfioIoasOp.GET:
        if not iommu.vfio_ioas:
            raise OSError(errno.ENODEV, "there is none")
        respond(caller, call, abi.VFIO_IOAS, wanted._replace(ioas_id=iommu.vfio_ioas))
    elif wanted.op == VfioIoasOp.SET:
        iommu.get(wanted.ioas_id, Ioas)
        iommu.vfio_ioas = wanted.ioas_id
    elif wanted.op == VfioIoasOp.CLEAR:
        iommu.vfio_ioas = 0
    else:
        raise OSError(errno.EOPNOTSUPP, f"no such operation: {wanted.op}")
    return (("id", iommu.vfio_ioas),)


REQUESTS: dict[str, Callable[[Iommu, Call, Caller], Detail]] = {
    "ioas-alloc": _alloc,
    "ioas-iova-ranges": _iova_ranges,
    "ioas-allow-iovas": _allow_iovas,
    "ioas-map": _map,
    "ioas-map-file": _map_file,
    "ioas-copy": _copy,
    "ioas-unmap": _unmap,
    "ioas-change-process": _change_process,
    "iommu-option": _option,
    "vfio-ioas": _vfio_ioas,
}
