"""An iommufd: what QEMU asks of an IOMMU by ioctl.

Answers are those of Linux 7.3 (linux/iommufd.h; drivers/iommu/iommufd). Requests on address spaces
are in `address_spaces`, those on page tables and devices in `page_tables`.
"""

import errno
from collections.abc import Callable

from qmptests.vfio import abi, address_spaces, page_tables
from qmptests.vfio.calls import Answer, Call, Caller, Detail
from qmptests.vfio.iommu import Iommu

#: So many are known, the last ones: QEMU has one for each BAR, and maps it at once.
MOST_DMA_BUFS = 4096


class Iommufd(Iommu):
    """One /dev/iommu that is open."""

    def __init__(self) -> None:
        super().__init__()
        #: Device and inode of each file that stands for a device's registers, in order, with the
        #: errno with which it can't be mapped now, or 0.
        self.dma_bufs: dict[tuple[int, int], Callable[[], int]] = {}

    def add_dma_buf(self, identity: tuple[int, int], refusal: Callable[[], int]) -> None:
        """A program got that file for a device's registers, to be mapped."""
        if len(self.dma_bufs) >= MOST_DMA_BUFS:
            del self.dma_bufs[next(iter(self.dma_bufs))]
        self.dma_bufs[identity] = refusal

    def handle(self, call: Call, caller: Caller, now: float) -> Answer:  # noqa: ARG002
        """Answer a request on the iommufd itself; nothing here depends on time."""
        if call.errno:
            return Answer(errno=call.errno)
        request = _REQUESTS.get(call.name)
        if request is None:
            return Answer(errno=errno.ENOTTY)
        try:
            return Answer(detail=request(self, call, caller))
        except OSError as error:
            return Answer(errno=error.errno or errno.EIO)


def _destroy(iommu: Iommu, call: Call, _: Caller) -> Detail:
    wanted: abi.Destroy = call.argument
    iommu.destroy(wanted.id)
    return ()


_REQUESTS = {"destroy": _destroy, **address_spaces.REQUESTS, **page_tables.REQUESTS}
