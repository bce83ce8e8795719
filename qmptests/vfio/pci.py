"""A PCI Express function as vfio-pci shows it: configuration space and BARs.

Registers are those of the PCI and PCI Express specifications (linux/pci_regs.h has the numbers).
What can be written is what vfio-pci lets through or keeps itself (drivers/vfio/pci/
vfio_pci_config.c): of capabilities that is power management's state and Express's device control;
MSI and MSI-X are set up by SET_IRQS alone. A reset leaves it as it is: the kernel saves it before,
and restores it.
"""

import errno
import struct

from qmptests.vfio.abi import Region, RegionFlag
from qmptests.vfio.spec import Bar, Spec

CONFIG_SIZE = 4096

COMMAND = 0x04
BAR0 = 0x10
INTERRUPT_LINE = 0x3C
#: Where the capabilities are; each has the number of the next in its second byte.
PM = 0x40
MSIX = 0x50
EXPRESS = 0x60
PM_CONTROL = PM + 4
DEVICE_CONTROL = EXPRESS + 8

_STATUS_CAP_LIST = 0x10
#: Memory, bus master, parity error, SERR#, INTx disable.
_COMMAND_WRITABLE = 0x0546
_MEMORY = 0x2
_PM_STATES = 0x3
_INTX_DISABLE = 0x0400
#: D1 and D2 are optional, and not there.
_D1, _D2 = 1, 2
_NO_SOFT_RESET = 0x8
#: All of it but phantom functions, auxiliary power and the FLR bit.
_DEVICE_CONTROL_WRITABLE = 0x79FF
_FLR = 0x8000
#: Bytes of a vector in the MSI-X table.
MSIX_ENTRY = 16


class ConfigSpace:
    """The 4096 bytes of a function's configuration space, at `image`.

    It says that it is an endpoint; on a root complex QEMU turns that into an integrated one, and on
    a conventional bus it shows the capability as it is.
    """

    def __init__(self, spec: Spec) -> None:
        self.image = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self._header(spec)
        for bar in spec.bars:
            self._bar(bar)
        self._power_management()
        if spec.msix_vectors:
            self._msix(spec)
        self._express()

    def write(self, offset: int, data: bytes) -> bytes:
        """Write; the bytes that now stand there, which is what a read gives.

        Raises OSError (EFAULT) past the end.
        """
        end = offset + len(data)
        if end > CONFIG_SIZE:
            raise OSError(errno.EFAULT, f"no configuration space at {offset:#x}")
        power = self.image[PM_CONTROL] & _PM_STATES
        for at, new in enumerate(data, offset):
            mask = self._writable[at]
            self.image[at] = self.image[at] & ~mask | new & mask
        if self.image[PM_CONTROL] & _PM_STATES in (_D1, _D2):
            self.image[PM_CONTROL] = self.image[PM_CONTROL] & ~_PM_STATES | power
        return bytes(self.image[offset:end])

    @staticmethod
    def is_reset(offset: int, data: bytes) -> bool:
        """Whether that write asks for a function-level reset."""
        at = DEVICE_CONTROL + 1 - offset
        return 0 <= at < len(data) and bool(data[at] & (_FLR >> 8))

    @property
    def memory_enabled(self) -> bool:
        """Whether BARs answer (__vfio_pci_memory_enabled()): not in D3hot."""
        command: int = struct.unpack_from("<H", self.image, COMMAND)[0]
        awake = self.image[PM_CONTROL] & _PM_STATES != _PM_STATES
        return awake and bool(command & _MEMORY)

    @property
    def forbids_intx(self) -> bool:
        """Whether the command register switches INTx off."""
        command: int = struct.unpack_from("<H", self.image, COMMAND)[0]
        return bool(command & _INTX_DISABLE)

    # --- building -------------------------------------------------------------------------------

    def _put(self, offset: int, code: str, value: int, writable: int = 0) -> None:
        struct.pack_into("<" + code, self.image, offset, value)
        struct.pack_into("<" + code, self._writable, offset, writable)

    def _header(self, spec: Spec) -> None:
        self._put(0x00, "H", spec.vendor_id)
        self._put(0x02, "H", spec.device_id)
        self._put(COMMAND, "H", 0, _COMMAND_WRITABLE)
        self._put(0x06, "H", _STATUS_CAP_LIST)
        self._put(0x08, "I", spec.class_code << 8 | spec.revision)
        self._put(0x0C, "B", 0, 0xFF)  # cache line size
        self._put(0x2C, "H", spec.subsystem_vendor_id)
        self._put(0x2E, "H", spec.subsystem_id)
        self._put(0x34, "B", PM)
        self._put(INTERRUPT_LINE, "B", 0, 0xFF)
        self._put(0x3D, "B", int(spec.intx))

    def _bar(self, bar: Bar) -> None:
        """Of an address only the bits above its size can be written: that is how it is sized."""
        kind = (0x4 if bar.wide else 0) | (0x8 if bar.prefetchable else 0)
        self._put(
            BAR0 + 4 * bar.index_,
            "Q" if bar.wide else "I",
            kind,
            -bar.size & (0xFFFFFFFFFFFFFFFF if bar.wide else 0xFFFFFFFF),
        )

    def _power_management(self) -> None:
        """Version 3; D0 and D3hot, in which it keeps its state."""
        self._put(PM, "I", 0x0003 << 16 | MSIX << 8 | 0x01)
        self._put(PM_CONTROL, "H", _NO_SOFT_RESET, _PM_STATES)

    def _msix(self, spec: Spec) -> None:
        bar, table, pending = msix_place(spec)
        self._put(MSIX, "H", EXPRESS << 8 | 0x11)
        self._put(MSIX + 2, "H", spec.msix_vectors - 1)
        self._put(MSIX + 4, "I", table | bar)
        self._put(MSIX + 8, "I", pending | bar)

    def _express(self) -> None:
        """Version 2, an endpoint, 8 GT/s on 4 lanes; function-level reset."""
        if not self.image[MSIX]:
            self._put(PM + 1, "B", EXPRESS)
        self._put(EXPRESS, "I", 0x0002 << 16 | 0x10)
        self._put(EXPRESS + 4, "I", 1 << 28 | 1 << 15)  # FLR, role-based errors
        self._put(DEVICE_CONTROL, "H", 0x2810, _DEVICE_CONTROL_WRITABLE)
        self._put(EXPRESS + 0x0C, "I", 0x43)  # link capabilities
        self._put(EXPRESS + 0x12, "H", 0x43)  # link status
        self._put(EXPRESS + 0x2C, "I", 0x0E)  # link capabilities 2: 2.5, 5 and 8 GT/s
        self._put(EXPRESS + 0x30, "H", 0x03)  # link control 2: the target


def msix_place(spec: Spec) -> tuple[int, int, int]:
    """The BAR that has the MSI-X table in its upper half, and offsets of table and pending bits.

    The first that is large enough; raises ValueError if none is.
    """
    table = spec.msix_vectors * MSIX_ENTRY
    pending = (spec.msix_vectors + 63) // 64 * 8
    for bar in spec.bars:
        if bar.size // 2 >= table + pending:
            return bar.index_, bar.size // 2, bar.size // 2 + table
    least = 1 << (2 * (table + pending) - 1).bit_length()
    raise ValueError(f"{spec.msix_vectors} MSI-X vectors need a BAR of {least} bytes or more")


class Bars:
    """What GET_REGION_INFO says of each region."""

    def __init__(self, spec: Spec) -> None:
        flags = RegionFlag.READ | RegionFlag.WRITE
        self._regions = {int(Region.CONFIG): (int(flags), CONFIG_SIZE)}
        #: The one of which GET_REGION_INFO says that the MSI-X table may be mapped; -1 for none.
        self.msix_mappable = -1
        for bar in spec.bars:
            mmap = RegionFlag.MMAP if bar.mmap else 0
            self._regions[bar.index_] = int(flags | mmap), bar.size
        if spec.msix_mappable and spec.msix_vectors:
            bar_index = msix_place(spec)[0]
            if self._regions[bar_index][0] & RegionFlag.MMAP:
                self.msix_mappable = bar_index

    def region_info(self, index: int) -> tuple[int, int]:
        """Flags and size in bytes; both 0 for a region that the device has not, such as the upper
        half of a 64-bit BAR.
        """
        return self._regions.get(index, (0, 0))
