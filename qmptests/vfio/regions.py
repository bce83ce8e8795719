"""What can be read, written and mapped of a device's regions. Pure.

Rules are those of vfio_pci_rw(), vfio_pci_config_rw(), vfio_pci_bar_rw() and vfio_pci_core_mmap()
(drivers/vfio/pci), and before them those of every file (fs/read_write.c).
"""

import errno
from typing import NamedTuple

from qmptests.vfio.abi import NUM_REGIONS, Region
from qmptests.vfio.pci import MSIX_ENTRY, Bars, ConfigSpace, msix_place
from qmptests.vfio.spec import Spec

#: Offsets of regions in the device's descriptor (VFIO_PCI_OFFSET_SHIFT).
REGION_SHIFT = 40
OFFSET = (1 << REGION_SHIFT) - 1
#: From here on an offset, or a number of bytes, is negative.
_NEGATIVE = 1 << 63
#: Addresses that no program has, on any processor.
_ADDRESSES = 1 << 56
#: A longer read or write is cut to this (MAX_RW_COUNT).
_MOST = 0x7FFFF000
_PAGE = 4096
#: Of mmap(2), on all processors: the kinds of a mapping, and the shared ones.
_MAP_TYPE, _MAP_SHARED, _MAP_SHARED_VALIDATE = 0xF, 1, 3


class Access(NamedTuple):
    """What a read or a write comes to: `errno`, or `length` bytes from `at` in a region.

    `cut`: that is less than was asked for: the BAR ends there.
    """

    errno: int = 0
    region: int = 0
    at: int = 0
    length: int = 0
    cut: bool = False


class Regions:
    """Of one device. `table`: BAR, begin and end of the MSI-X table, which is hidden from reads and
    writes: what is read there is ones.
    """

    def __init__(self, spec: Spec, config: ConfigSpace, bars: Bars) -> None:
        self._config = config
        self._bars = bars
        self._mappable = {bar.index_ for bar in spec.bars if bar.mmap}
        self.table = (-1, 0, 0)
        if spec.msix_vectors:
            bar, begin, _ = msix_place(spec)
            self.table = bar, begin, begin + MSIX_ENTRY * spec.msix_vectors

    def access(self, address: int, count: int, position: int, *, bound: bool) -> Access:
        """pread64 or pwrite64 of `count` bytes at `address`; `bound`: whether somebody has it."""
        if position >= _NEGATIVE:
            return Access(errno.EINVAL)
        if address + count > _ADDRESSES:
            return Access(errno.EFAULT)
        if position + count >= _NEGATIVE or not bound:
            return Access(errno.EINVAL)
        if not count:
            return Access()
        region, at = position >> REGION_SHIFT, position & OFFSET
        count = min(count, _MOST)
        if region == Region.CONFIG:
            past = at + count > self._bars.region_info(region)[1]
            return Access(errno.EFAULT) if past else Access(0, region, at, count)
        size = self._bars.region_info(region)[1] if region < Region.ROM else 0
        if at >= size:
            return Access(errno.EINVAL)
        length = min(count, size - at)
        if self.reached(region, at, length) and not self._config.memory_enabled:
            return Access(errno.EIO)
        return Access(0, region, at, length, length < count)

    def reached(self, region: int, at: int, length: int) -> list[tuple[int, int]]:
        """Begin and end of what a read or a write of a BAR gets to: all but the MSI-X table."""
        bar, begin, end = self.table
        if region != bar:
            return [(at, at + length)]
        around = ((at, min(at + length, begin)), (max(at, end), at + length))
        return [part for part in around if part[0] < part[1]]

    def refuses_map(self, length: int, flags: int, position: int, *, bound: bool) -> int:
        """The errno of mmap(2); 0 also for what the kernel refuses whatever the file is."""
        if not 0 < length < _ADDRESSES or position % _PAGE or position >= _NEGATIVE:
            return 0
        region, at = position >> REGION_SHIFT, position & OFFSET
        shared = flags & _MAP_TYPE in (_MAP_SHARED, _MAP_SHARED_VALIDATE)
        if not bound or region >= NUM_REGIONS or not shared or region not in self._mappable:
            return errno.EINVAL
        size = self._bars.region_info(region)[1]
        return errno.EINVAL if at + length > size else 0
