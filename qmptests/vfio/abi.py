"""The kernel's ABI as data: numbers and structures of VFIO, iommufd and seccomp notification.

Each structure names its C type and the header that defines it; `tests/vfio/test_abi.py` compiles
both and compares every offset, size and number. Little-endian, as on x86-64 and aarch64.
"""

import struct
from enum import IntEnum, IntFlag
from typing import Generic, NamedTuple, TypeVar

from qmptests.vfio import abi_filter

VFIO_H = "linux/vfio.h"
IOMMUFD_H = "linux/iommufd.h"
SECCOMP_H = "linux/seccomp.h"
KVM_H = "linux/kvm.h"

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
        self.size = self._struct.size
        self.codes = codes

    def unpack(self, data: bytes) -> R:
        """The record; what `data` is too short for is zero, as for an older caller's structure."""
        if len(data) < self.size:
            data = data.ljust(self.size, b"\0")
        return self.record(*self._struct.unpack_from(data))

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


# --- VFIO ---------------------------------------------------------------------------------------


class Vfio(IntEnum):
    """Requests on a device, and on its migration data descriptor (linux/vfio.h)."""

    DEVICE_GET_INFO = 0x3B6B
    DEVICE_GET_REGION_INFO = 0x3B6C
    DEVICE_GET_IRQ_INFO = 0x3B6D
    DEVICE_SET_IRQS = 0x3B6E
    DEVICE_RESET = 0x3B6F
    DEVICE_GET_PCI_HOT_RESET_INFO = 0x3B70
    DEVICE_PCI_HOT_RESET = 0x3B71
    DEVICE_FEATURE = 0x3B75
    DEVICE_BIND_IOMMUFD = 0x3B76
    DEVICE_ATTACH_IOMMUFD_PT = 0x3B77
    DEVICE_DETACH_IOMMUFD_PT = 0x3B78
    MIG_GET_PRECOPY_INFO = 0x3B79


class OtherRequest(IntEnum):
    """Requests that nobody answers here; for messages. Those of groups and containers are left out:
    they share numbers with others.
    """

    VFIO_DEVICE_QUERY_GFX_PLANE = 0x3B72
    VFIO_DEVICE_GET_GFX_DMABUF = 0x3B73
    VFIO_DEVICE_IOEVENTFD = 0x3B74
    IOMMU_IOAS_ALLOW_IOVAS = 0x3B82
    IOMMU_IOAS_COPY = 0x3B83
    IOMMU_OPTION = 0x3B87
    IOMMU_VFIO_IOAS = 0x3B88
    IOMMU_HWPT_INVALIDATE = 0x3B8D
    IOMMU_FAULT_QUEUE_ALLOC = 0x3B8E
    IOMMU_VIOMMU_ALLOC = 0x3B90
    IOMMU_VDEVICE_ALLOC = 0x3B91
    IOMMU_VEVENTQ_ALLOC = 0x3B93
    IOMMU_HW_QUEUE_ALLOC = 0x3B94


class DeviceInfo(NamedTuple):
    argsz: int
    flags: int
    num_regions: int
    num_irqs: int
    cap_offset: int = 0
    pad: int = 0


DEVICE_INFO = Layout(DeviceInfo, "struct vfio_device_info", VFIO_H, "IIIIII")


class DeviceFlag(IntFlag):
    """`flags` of DeviceInfo (VFIO_DEVICE_FLAGS_*)."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionInfo(NamedTuple):
    argsz: int
    flags: int
    index_: int
    cap_offset: int
    length: int
    offset: int


REGION_INFO = Layout(RegionInfo, "struct vfio_region_info", VFIO_H, "IIIIQQ")


class RegionFlag(IntFlag):
    """`flags` of RegionInfo (VFIO_REGION_INFO_FLAG_*)."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class Region(IntEnum):
    """Indices of a PCI device's regions (VFIO_PCI_*_REGION_INDEX)."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


NUM_REGIONS = 9


class IrqInfo(NamedTuple):
    argsz: int
    flags: int
    index_: int
    count_: int


IRQ_INFO = Layout(IrqInfo, "struct vfio_irq_info", VFIO_H, "IIII")


class IrqInfoFlag(IntFlag):
    """`flags` of IrqInfo (VFIO_IRQ_INFO_*)."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class Irq(IntEnum):
    """Indices of a PCI device's interrupts (VFIO_PCI_*_IRQ_INDEX)."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


NUM_IRQS = 5


class IrqSet(NamedTuple):
    """Followed by `count` data elements, as `flags` says."""

    argsz: int
    flags: int
    index_: int
    start: int
    count_: int


IRQ_SET = Layout(IrqSet, "struct vfio_irq_set", VFIO_H, "IIIII")


class IrqSetFlag(IntFlag):
    """`flags` of IrqSet (VFIO_IRQ_SET_*)."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class HotReset(NamedTuple):
    """Followed by `count` devices that are reset together, or by descriptors of their groups."""

    argsz: int
    flags: int
    count_: int


HOT_RESET_INFO = Layout(HotReset, "struct vfio_pci_hot_reset_info", VFIO_H, "III")
HOT_RESET = Layout(HotReset, "struct vfio_pci_hot_reset", VFIO_H, "III")


class BindIommufd(NamedTuple):
    argsz: int
    flags: int
    iommufd: int
    out_devid: int
    token_uuid_ptr: int = 0


BIND_IOMMUFD = Layout(BindIommufd, "struct vfio_device_bind_iommufd", VFIO_H, "IIiIQ")


class AttachIommufdPt(NamedTuple):
    argsz: int
    flags: int
    pt_id: int
    pasid: int = 0


ATTACH_IOMMUFD_PT = Layout(AttachIommufdPt, "struct vfio_device_attach_iommufd_pt", VFIO_H, "IIII")


class DetachIommufdPt(NamedTuple):
    argsz: int
    flags: int
    pasid: int = 0


DETACH_IOMMUFD_PT = Layout(DetachIommufdPt, "struct vfio_device_detach_iommufd_pt", VFIO_H, "III")


class FeatureHeader(NamedTuple):
    """Followed by the feature's own structure."""

    argsz: int
    flags: int


FEATURE_HEADER = Layout(FeatureHeader, "struct vfio_device_feature", VFIO_H, "II")


class FeatureFlag(IntFlag):
    """`flags` of FeatureHeader; the low 16 bits are the feature's number."""

    MASK = 0xFFFF
    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18


class Feature(IntEnum):
    """Numbers of features (VFIO_DEVICE_FEATURE_*)."""

    MIGRATION = 1
    MIG_DEVICE_STATE = 2
    DMA_LOGGING_START = 6
    DMA_LOGGING_STOP = 7
    DMA_LOGGING_REPORT = 8
    MIG_DATA_SIZE = 9
    DMA_BUF = 11
    MIG_PRECOPY_INFOV2 = 12


class FeatureMigration(NamedTuple):
    flags: int


FEATURE_MIGRATION = Layout(FeatureMigration, "struct vfio_device_feature_migration", VFIO_H, "Q")


class MigrationFlag(IntFlag):
    """`flags` of FeatureMigration (VFIO_MIGRATION_*)."""

    STOP_COPY = 1 << 0
    P2P = 1 << 1
    PRE_COPY = 1 << 2


class FeatureMigState(NamedTuple):
    device_state: int
    data_fd: int


FEATURE_MIG_STATE = Layout(FeatureMigState, "struct vfio_device_feature_mig_state", VFIO_H, "Ii")


class State(IntEnum):
    """`enum vfio_device_mig_state`."""

    ERROR = 0
    STOP = 1
    RUNNING = 2
    STOP_COPY = 3
    RESUMING = 4
    RUNNING_P2P = 5
    PRE_COPY = 6
    PRE_COPY_P2P = 7


class PrecopyInfo(NamedTuple):
    argsz: int
    flags: int
    initial_bytes: int
    dirty_bytes: int


PRECOPY_INFO = Layout(PrecopyInfo, "struct vfio_precopy_info", VFIO_H, "IIQQ")


class PrecopyInfoFlag(IntFlag):
    """`flags` of PrecopyInfo (VFIO_PRECOPY_INFO_*)."""

    REINIT = 1 << 0


class DmaBuf(NamedTuple):
    """Followed by `nr_ranges` ranges of the region."""

    region_index: int
    open_flags: int
    flags: int
    nr_ranges: int


DMA_BUF = Layout(DmaBuf, "struct vfio_device_feature_dma_buf", VFIO_H, "IIII")


class DataSize(NamedTuple):
    stop_copy_length: int


DATA_SIZE = Layout(DataSize, "struct vfio_device_feature_mig_data_size", VFIO_H, "Q")


class LoggingControl(NamedTuple):
    page_size: int
    num_ranges: int
    reserved: int
    ranges: int


LOGGING_CONTROL = Layout(
    LoggingControl, "struct vfio_device_feature_dma_logging_control", VFIO_H, "QIIQ"
)


class LoggingRange(NamedTuple):
    iova: int
    length: int


LOGGING_RANGE = Layout(LoggingRange, "struct vfio_device_feature_dma_logging_range", VFIO_H, "QQ")


class LoggingReport(NamedTuple):
    iova: int
    length: int
    page_size: int
    bitmap: int


LOGGING_REPORT = Layout(
    LoggingReport, "struct vfio_device_feature_dma_logging_report", VFIO_H, "QQQQ"
)

# --- iommufd ------------------------------------------------------------------------------------


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

# --- seccomp user notification ------------------------------------------------------------------


class Seccomp(IntEnum):
    """Requests on a listener (linux/seccomp.h)."""

    NOTIF_RECV = 0xC0502100
    NOTIF_SEND = 0xC0182101
    NOTIF_ID_VALID = 0x40082102
    NOTIF_ADDFD = 0x40182103
    NOTIF_SET_FLAGS = 0x40082104


class Notification(NamedTuple):
    """`struct seccomp_notif` with its `struct seccomp_data`: what a thread called."""

    id: int
    pid: int
    flags: int
    nr: int
    arch: int
    instruction_pointer: int
    arg0: int
    arg1: int
    arg2: int
    arg3: int
    arg4: int
    arg5: int


NOTIFICATION = Layout(Notification, "struct seccomp_notif", SECCOMP_H, "QIIiIQQQQQQQ")


class Response(NamedTuple):
    id: int
    val: int
    error: int
    flags: int


RESPONSE = Layout(Response, "struct seccomp_notif_resp", SECCOMP_H, "QqiI")


class AddFd(NamedTuple):
    id: int
    flags: int
    srcfd: int
    newfd: int
    newfd_flags: int


ADDFD = Layout(AddFd, "struct seccomp_notif_addfd", SECCOMP_H, "QIIII")

#: Let the kernel do the call after all (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
NOTIF_CONTINUE = 1 << 0
#: Put the descriptor on the number that is asked for (SECCOMP_ADDFD_FLAG_SETFD).
ADDFD_SETFD = 1 << 0
#: Linux 6.6: wake the caller on the answering CPU (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP).
NOTIF_SYNC_WAKE_UP = 1 << 0

# --- KVM ----------------------------------------------------------------------------------------

KVM_DEV_VFIO_FILE = 1
KVM_DEV_VFIO_FILE_ADD = 1
KVM_DEV_VFIO_FILE_DEL = 2


class KvmDeviceAttr(NamedTuple):
    flags: int
    group: int
    attr: int
    addr: int


KVM_DEVICE_ATTR = Layout(KvmDeviceAttr, "struct kvm_device_attr", KVM_H, "IIQQ")
