"""iommufd: page tables, mappings, dirty tracking (linux/iommufd.h)."""

from enum import IntEnum, IntFlag
from typing import NamedTuple

from qmptests.vfio.abi.layout import IOMMUFD_H, Layout


class Iommu(IntEnum):
    """Requests on an iommufd (linux/iommufd.h)."""

    DESTROY = 0x3B80
    IOAS_ALLOC = 0x3B81
    IOAS_IOVA_RANGES = 0x3B84
    IOAS_MAP = 0x3B85
    IOAS_UNMAP = 0x3B86
    HWPT_ALLOC = 0x3B89
    GET_HW_INFO = 0x3B8A
    HWPT_SET_DIRTY_TRACKING = 0x3B8B
    HWPT_GET_DIRTY_BITMAP = 0x3B8C
    IOAS_MAP_FILE = 0x3B8F
    IOAS_CHANGE_PROCESS = 0x3B92


class Destroy(NamedTuple):
    size: int
    id: int


DESTROY = Layout(Destroy, "struct iommu_destroy", IOMMUFD_H, "II")


class IoasAlloc(NamedTuple):
    size: int
    flags: int
    out_ioas_id: int


IOAS_ALLOC = Layout(IoasAlloc, "struct iommu_ioas_alloc", IOMMUFD_H, "III")


class IovaRanges(NamedTuple):
    size: int
    ioas_id: int
    num_iovas: int
    reserved: int
    allowed_iovas: int
    out_iova_alignment: int


IOVA_RANGES = Layout(IovaRanges, "struct iommu_ioas_iova_ranges", IOMMUFD_H, "IIIIQQ")


class IovaRange(NamedTuple):
    start: int
    last: int


IOVA_RANGE = Layout(IovaRange, "struct iommu_iova_range", IOMMUFD_H, "QQ")


class MapFlag(IntFlag):
    """`flags` of IoasMap (IOMMU_IOAS_MAP_*)."""

    FIXED_IOVA = 1 << 0
    WRITEABLE = 1 << 1
    READABLE = 1 << 2


class IoasMap(NamedTuple):
    size: int
    flags: int
    ioas_id: int
    reserved: int
    user_va: int
    length: int
    iova: int


IOAS_MAP = Layout(IoasMap, "struct iommu_ioas_map", IOMMUFD_H, "IIIIQQQ")


class IoasMapFile(NamedTuple):
    size: int
    flags: int
    ioas_id: int
    fd: int
    start: int
    length: int
    iova: int


IOAS_MAP_FILE = Layout(IoasMapFile, "struct iommu_ioas_map_file", IOMMUFD_H, "IIIiQQQ")


class IoasUnmap(NamedTuple):
    size: int
    ioas_id: int
    iova: int
    length: int


IOAS_UNMAP = Layout(IoasUnmap, "struct iommu_ioas_unmap", IOMMUFD_H, "IIQQ")


class HwptFlag(IntFlag):
    """`flags` of HwptAlloc (IOMMU_HWPT_ALLOC_*)."""

    NEST_PARENT = 1 << 0
    DIRTY_TRACKING = 1 << 1


class HwptAlloc(NamedTuple):
    size: int
    flags: int
    dev_id: int
    pt_id: int
    out_hwpt_id: int
    reserved: int
    data_type: int
    data_len: int
    data_uptr: int
    fault_id: int
    reserved2: int


HWPT_ALLOC = Layout(HwptAlloc, "struct iommu_hwpt_alloc", IOMMUFD_H, "IIIIIIIIQII")


class HwInfo(NamedTuple):
    size: int
    flags: int
    dev_id: int
    data_len: int
    data_uptr: int
    out_data_type: int
    out_max_pasid_log2: int
    out_capabilities: int


HW_INFO = Layout(HwInfo, "struct iommu_hw_info", IOMMUFD_H, "IIIIQIBxxxQ")


class HwCapability(IntFlag):
    """`out_capabilities` of HwInfo (IOMMU_HW_CAP_*)."""

    DIRTY_TRACKING = 1 << 0


class DirtyTracking(NamedTuple):
    size: int
    flags: int
    hwpt_id: int
    reserved: int


DIRTY_TRACKING = Layout(DirtyTracking, "struct iommu_hwpt_set_dirty_tracking", IOMMUFD_H, "IIII")
DIRTY_TRACKING_ENABLE = 1


class DirtyBitmap(NamedTuple):
    size: int
    hwpt_id: int
    flags: int
    reserved: int
    iova: int
    length: int
    page_size: int
    data: int


DIRTY_BITMAP = Layout(DirtyBitmap, "struct iommu_hwpt_get_dirty_bitmap", IOMMUFD_H, "IIIIQQQQ")
DIRTY_BITMAP_NO_CLEAR = 1


class ChangeProcess(NamedTuple):
    size: int
    reserved: int


CHANGE_PROCESS = Layout(ChangeProcess, "struct iommu_ioas_change_process", IOMMUFD_H, "II")
