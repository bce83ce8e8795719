"""VFIO: devices, their regions, interrupts and migration (linux/vfio.h)."""

from enum import IntEnum, IntFlag
from typing import NamedTuple

from qmptests.vfio.abi.layout import VFIO_H, Layout


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
    IOMMU_FAULT_QUEUE_ALLOC = 0x3B8E


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


class InfoCap(NamedTuple):
    """What the first of a region's capabilities begins with; `next` is 0 for the last."""

    id: int
    version: int
    next: int


INFO_CAP = Layout(InfoCap, "struct vfio_info_cap_header", VFIO_H, "HHI")
REGION_INFO_CAP_MSIX_MAPPABLE = 3


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


#: Flag: `token_uuid_ptr` is there, the address of a UUID.
BIND_TOKEN = 1

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


#: Flag of both: `pasid` is there.
ATTACH_PASID = DETACH_PASID = 1

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


class DmaRange(NamedTuple):
    offset: int
    length: int


DMA_RANGE = Layout(DmaRange, "struct vfio_region_dma_range", VFIO_H, "QQ")


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
