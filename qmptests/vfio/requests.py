"""The requests that are answered, by descriptor: names, structures, and what a log shows of them.

Sizes that a caller must have at least are the kernel's: `minsz` in drivers/vfio, `min_size` in
drivers/iommu/iommufd/main.c.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from qmptests.vfio import abi
from qmptests.vfio.abi import Feature, Iommu, Vfio
from qmptests.vfio.words import action_word, irq_word, region_word, state_word

#: Names and values, in the order in which a log shows them.
Detail = tuple[tuple[str, int | str], ...]

#: From a record of `abi` to what a log shows of it.
Show = Callable[[Any], Detail]


class Request(NamedTuple):
    """A request with a structure whose first field is its size.

    `minimum`: a shorter one is EINVAL. `strict`: a longer one is E2BIG unless the rest is zero, as
    the kernel's copy_struct_from_user has it.
    """

    name: str
    layout: abi.Layout[Any]
    minimum: int
    show: Show
    strict: bool


class FeatureCall(NamedTuple):
    """What is done with a feature; without a layout it has nothing but the header."""

    name: str
    layout: abi.Layout[Any] | None
    show: Show


def _nothing(_: Any) -> Detail:
    return ()


def _extent(record: Any) -> Detail:
    return (("iova", record.iova), ("length", record.length))


def _irqs(record: abi.IrqSet) -> Detail:
    return (
        ("irq", irq_word(record.index_)),
        ("action", action_word(record.flags)),
        ("start", record.start),
        ("count", record.count_),
    )


def _vfio(name: str, layout: abi.Layout[Any], last: str, show: Show = _nothing) -> Request:
    """`last`: the last field that a caller must have."""
    return Request(name, layout, layout.until(last), show, layout is abi.BIND_IOMMUFD)


def _iommufd(name: str, layout: abi.Layout[Any], last: str, show: Show = _nothing) -> Request:
    return Request(name, layout, layout.until(last), show, strict=True)


#: By what the descriptor is. VFIO_DEVICE_FEATURE and VFIO_DEVICE_RESET are none of these.
REQUESTS: dict[str, dict[int, Request]] = {
    "device": {
        Vfio.DEVICE_BIND_IOMMUFD: _vfio("bind", abi.BIND_IOMMUFD, "out_devid"),
        Vfio.DEVICE_ATTACH_IOMMUFD_PT: _vfio(
            "attach", abi.ATTACH_IOMMUFD_PT, "pt_id", lambda record: (("pt", record.pt_id),)
        ),
        Vfio.DEVICE_DETACH_IOMMUFD_PT: _vfio("detach", abi.DETACH_IOMMUFD_PT, "flags"),
        Vfio.DEVICE_GET_INFO: _vfio("device-info", abi.DEVICE_INFO, "num_irqs"),
        Vfio.DEVICE_GET_REGION_INFO: _vfio(
            "region-info",
            abi.REGION_INFO,
            "offset",
            lambda record: (("region", region_word(record.index_)),),
        ),
        Vfio.DEVICE_GET_IRQ_INFO: _vfio(
            "irq-info", abi.IRQ_INFO, "count_", lambda record: (("irq", irq_word(record.index_)),)
        ),
        Vfio.DEVICE_SET_IRQS: _vfio("set-irqs", abi.IRQ_SET, "count_", _irqs),
        Vfio.DEVICE_GET_PCI_HOT_RESET_INFO: _vfio("hot-reset-info", abi.HOT_RESET_INFO, "count_"),
        Vfio.DEVICE_PCI_HOT_RESET: _vfio("hot-reset", abi.HOT_RESET, "count_"),
    },
    "data": {
        Vfio.MIG_GET_PRECOPY_INFO: _vfio("precopy-info", abi.PRECOPY_INFO, "dirty_bytes"),
    },
    "iommufd": {
        Iommu.DESTROY: _iommufd("destroy", abi.DESTROY, "id", lambda record: (("id", record.id),)),
        Iommu.IOAS_ALLOC: _iommufd("ioas-alloc", abi.IOAS_ALLOC, "out_ioas_id"),
        Iommu.IOAS_IOVA_RANGES: _iommufd(
            "ioas-iova-ranges",
            abi.IOVA_RANGES,
            "out_iova_alignment",
            lambda record: (("room", record.num_iovas),),
        ),
        Iommu.IOAS_ALLOW_IOVAS: _iommufd(
            "ioas-allow-iovas",
            abi.ALLOW_IOVAS,
            "allowed_iovas",
            lambda record: (("count", record.num_iovas),),
        ),
        Iommu.IOAS_COPY: _iommufd(
            "ioas-copy",
            abi.IOAS_COPY,
            "src_iova",
            lambda record: (("iova", record.src_iova), ("length", record.length)),
        ),
        Iommu.OPTION: _iommufd(
            "iommu-option", abi.OPTION, "val64", lambda record: (("option", record.option_id),)
        ),
        Iommu.VFIO_IOAS: _iommufd(
            "vfio-ioas", abi.VFIO_IOAS, "reserved", lambda record: (("op", record.op),)
        ),
        Iommu.HWPT_INVALIDATE: _iommufd("hwpt-invalidate", abi.INVALIDATE, "reserved"),
        Iommu.VIOMMU_ALLOC: _iommufd("viommu-alloc", abi.VIOMMU_ALLOC, "out_viommu_id"),
        Iommu.VDEVICE_ALLOC: _iommufd("vdevice-alloc", abi.VDEVICE_ALLOC, "virt_id"),
        Iommu.VEVENTQ_ALLOC: _iommufd("veventq-alloc", abi.VEVENTQ_ALLOC, "out_veventq_fd"),
        Iommu.HW_QUEUE_ALLOC: _iommufd("hw-queue-alloc", abi.HW_QUEUE_ALLOC, "length"),
        Iommu.IOAS_MAP: _iommufd("ioas-map", abi.IOAS_MAP, "iova", _extent),
        Iommu.IOAS_MAP_FILE: _iommufd("ioas-map-file", abi.IOAS_MAP_FILE, "iova", _extent),
        Iommu.IOAS_UNMAP: _iommufd("ioas-unmap", abi.IOAS_UNMAP, "length", _extent),
        Iommu.IOAS_CHANGE_PROCESS: _iommufd("ioas-change-process", abi.CHANGE_PROCESS, "reserved"),
        Iommu.HWPT_ALLOC: _iommufd(
            "hwpt-alloc", abi.HWPT_ALLOC, "reserved", lambda record: (("pt", record.pt_id),)
        ),
        Iommu.GET_HW_INFO: _iommufd(
            "hw-info", abi.HW_INFO, "reserved_2", lambda record: (("dev", record.dev_id),)
        ),
        Iommu.HWPT_SET_DIRTY_TRACKING: _iommufd(
            "set-dirty-tracking",
            abi.DIRTY_TRACKING,
            "reserved",
            lambda record: (("enable", record.flags & abi.DIRTY_TRACKING_ENABLE),),
        ),
        Iommu.HWPT_GET_DIRTY_BITMAP: _iommufd("dirty-bitmap", abi.DIRTY_BITMAP, "data", _extent),
    },
}

SET_STATE = FeatureCall(
    "set-state",
    abi.FEATURE_MIG_STATE,
    lambda record: (("state", state_word(record.device_state)),),
)

#: By the feature's number; SET_STATE is the other half of MIG_DEVICE_STATE.
FEATURES: dict[int, FeatureCall] = {
    Feature.MIGRATION: FeatureCall("migration-flags", abi.FEATURE_MIGRATION, _nothing),
    Feature.MIG_DEVICE_STATE: FeatureCall("get-state", abi.FEATURE_MIG_STATE, _nothing),
    Feature.MIG_DATA_SIZE: FeatureCall("data-size", abi.DATA_SIZE, _nothing),
    Feature.MIG_PRECOPY_INFOV2: FeatureCall("precopy-info-v2", None, _nothing),
    Feature.DMA_LOGGING_START: FeatureCall(
        "dma-start", abi.LOGGING_CONTROL, lambda record: (("ranges", record.num_ranges),)
    ),
    Feature.DMA_LOGGING_STOP: FeatureCall("dma-stop", None, _nothing),
    Feature.DMA_LOGGING_REPORT: FeatureCall("dma-report", abi.LOGGING_REPORT, _extent),
    Feature.DMA_BUF: FeatureCall(
        "dma-buf", abi.DMA_BUF, lambda record: (("region", region_word(record.region_index)),)
    ),
}
