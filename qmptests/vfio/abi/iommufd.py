"""iommufd: page tables, mappings, dirty tracking (linux/iommufd.h)."""

from enum import IntEnum, IntFlag
from typing import NamedTuple

from qmptests.vfio.abi.layout import IOMMUFD_H, Layout


class Iommu(IntEnum):
    """Requests on an iommufd (linux/iommufd.h)."""

    DESTROY = 0x3B80
    IOAS_ALLOC = 0x3B81
    IOAS_ALLOW_IOVAS = 0x3B82
    IOAS_COPY = 0x3B83
    IOAS_IOVA_RANGES = 0x3B84
    IOAS_MAP = 0x3B85
    IOAS_UNMAP = 0x3B86
    OPTION = 0x3B87
    VFIO_IOAS = 0x3B88
    HWPT_ALLOC = 0x3B89
    GET_HW_INFO = 0x3B8A
    HWPT_SET_DIRTY_TRACKING = 0x3B8B
    HWPT_GET_DIRTY_BITMAP = 0x3B8C
    HWPT_INVALIDATE = 0x3B8D
    IOAS_MAP_FILE = 0x3B8F
    VIOMMU_ALLOC = 0x3B90
    VDEVICE_ALLOC = 0x3B91
    IOAS_CHANGE_PROCESS = 0x3B92
    VEVENTQ_ALLOC = 0x3B93
    HW_QUEUE_ALLOC = 0x3B94


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


class AllowIovas(NamedTuple):
    size: int
    ioas_id: int
    num_iovas: int
    reserved: int
    allowed_iovas: int


ALLOW_IOVAS = Layout(AllowIovas, "struct iommu_ioas_allow_iovas", IOMMUFD_H, "IIIIQ")


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


class IoasCopy(NamedTuple):
    size: int
    flags: int
    dst_ioas_id: int
    src_ioas_id: int
    length: int
    dst_iova: int
    src_iova: int


IOAS_COPY = Layout(IoasCopy, "struct iommu_ioas_copy", IOMMUFD_H, "IIIIQQQ")


class IoasUnmap(NamedTuple):
    size: int
    ioas_id: int
    iova: int
    length: int


IOAS_UNMAP = Layout(IoasUnmap, "struct iommu_ioas_unmap", IOMMUFD_H, "IIQQ")


class OptionId(IntEnum):
    """`option_id` of Option (IOMMU_OPTION_*)."""

    RLIMIT_MODE = 0
    HUGE_PAGES = 1


class OptionOp(IntEnum):
    """`op` of Option (IOMMU_OPTION_OP_*)."""

    SET = 0
    GET = 1


class Option(NamedTuple):
    size: int
    option_id: int
    op: int
    reserved: int
    object_id: int
    val64: int


OPTION = Layout(Option, "struct iommu_option", IOMMUFD_H, "IIHHIQ")


class VfioIoasOp(IntEnum):
    """`op` of VfioIoas (IOMMU_VFIO_IOAS_*)."""

    GET = 0
    SET = 1
    CLEAR = 2


class VfioIoas(NamedTuple):
    size: int
    ioas_id: int
    op: int
    reserved: int


VFIO_IOAS = Layout(VfioIoas, "struct iommu_vfio_ioas", IOMMUFD_H, "IIHH")


class HwptFlag(IntFlag):
    """`flags` of HwptAlloc (IOMMU_HWPT_ALLOC_*, IOMMU_HWPT_FAULT_ID_VALID)."""

    NEST_PARENT = 1 << 0
    DIRTY_TRACKING = 1 << 1
    FAULT_ID_VALID = 1 << 2
    PASID = 1 << 3


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
    reserved_0: int
    reserved_1: int
    reserved_2: int
    out_capabilities: int


HW_INFO = Layout(HwInfo, "struct iommu_hw_info", IOMMUFD_H, "IIIIQIBBBBQ")
HW_INFO_INPUT_TYPE = 1


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


class Invalidate(NamedTuple):
    size: int
    hwpt_id: int
    data_uptr: int
    data_type: int
    entry_len: int
    entry_num: int
    reserved: int


INVALIDATE = Layout(Invalidate, "struct iommu_hwpt_invalidate", IOMMUFD_H, "IIQIIII")


class ViommuAlloc(NamedTuple):
    size: int
    flags: int
    type: int
    dev_id: int
    hwpt_id: int
    out_viommu_id: int
    data_len: int
    reserved: int
    data_uptr: int


VIOMMU_ALLOC = Layout(ViommuAlloc, "struct iommu_viommu_alloc", IOMMUFD_H, "IIIIIIIIQ")


class VdeviceAlloc(NamedTuple):
    size: int
    viommu_id: int
    dev_id: int
    out_vdevice_id: int
    virt_id: int


VDEVICE_ALLOC = Layout(VdeviceAlloc, "struct iommu_vdevice_alloc", IOMMUFD_H, "IIIIQ")


class VeventqAlloc(NamedTuple):
    size: int
    flags: int
    viommu_id: int
    type: int
    veventq_depth: int
    out_veventq_id: int
    out_veventq_fd: int
    reserved: int


VEVENTQ_ALLOC = Layout(VeventqAlloc, "struct iommu_veventq_alloc", IOMMUFD_H, "IIIIIIII")


class HwQueueAlloc(NamedTuple):
    size: int
    flags: int
    viommu_id: int
    type: int
    index_: int
    out_hw_queue_id: int
    nesting_parent_iova: int
    length: int


HW_QUEUE_ALLOC = Layout(HwQueueAlloc, "struct iommu_hw_queue_alloc", IOMMUFD_H, "IIIIIIQQ")


class ChangeProcess(NamedTuple):
    size: int
    reserved: int


CHANGE_PROCESS = Layout(ChangeProcess, "struct iommu_ioas_change_process", IOMMUFD_H, "II")
