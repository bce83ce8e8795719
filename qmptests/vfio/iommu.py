"""An IOMMU's objects: address spaces, page tables, and the devices that are attached to them.

It is one of x86-64 with 48 bits, without nesting and PASIDs; whether it has dirty bits is up to
each device. Errors are those of drivers/iommu/iommufd in Linux.
"""

import errno
from typing import TypeVar

from qmptests.vfio.iova import LAST, PAGE, IovaSpace, Limits, Mapping
from qmptests.vfio.tracking import DirtyPages

#: What a page table can't map, and what the interrupts of any device take away.
BEYOND = (1 << 48, LAST)
MSI_WINDOW = (0xFEE00000, 0xFEEFFFFF)


class Ioas:
    """An address space. `large_pages`: whether pages may be put together (IOMMU_OPTION)."""

    def __init__(self) -> None:
        self.space = IovaSpace()
        self.large_pages = True


class PageTable:
    """A page table of an address space. `dirty` is None if it has no dirty bits; `automatic` ones
    come and go with the devices that are attached to the address space directly.
    """

    def __init__(self, ioas: Ioas, dirty: DirtyPages | None, *, automatic: bool = False) -> None:
        self.ioas = ioas
        self.dirty = dirty
        self.automatic = automatic


class Bound:
    """A device, and the id of the page table that it is attached to (0: none)."""

    def __init__(self, name: str, *, dirty_tracking: bool) -> None:
        self.name = name
        self.dirty_tracking = dirty_tracking
        self.table = 0


T = TypeVar("T", Ioas, PageTable, Bound)


class Iommu:
    """Objects by id, and what VFIO asks of them. An id is the lowest free one from 1.

    Memory that an address space maps is pinned while it has a page table: what can't be, no page
    table can have. `vfio_ioas`: which address space VFIO's own container requests mean, 0 for none.
    `account_by_process`: IOMMU_OPTION_RLIMIT_MODE; here nothing comes of it.
    """

    def __init__(self) -> None:
        self.objects: dict[int, Ioas | PageTable | Bound] = {}
        self.vfio_ioas = 0
        self.account_by_process = False
        #: No id below it is free.
        self._lowest = 1

    # --- what VFIO asks -------------------------------------------------------------------------

    def bind(self, name: str, *, dirty_tracking: bool) -> int:
        """VFIO_DEVICE_BIND_IOMMUFD: the device's id. `dirty_tracking`: whether its IOMMU can."""
        return self.add(Bound(name, dirty_tracking=dirty_tracking))

    def unbind(self, dev_id: int) -> None:
        """The device is closed. Raises OSError (ENOENT) if there is none of that id."""
        self.detach(dev_id)
        self._remove(dev_id)

    def attach(self, dev_id: int, pt_id: int) -> int:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT: the id of the page table that the device now uses.

        `pt_id` is a page table, or an address space, which then has one of its own. A device that
        is attached already changes over. Raises OSError: ENOENT for an unknown id; EINVAL if it is
        neither, or a page table with dirty bits and the device's IOMMU has none; EADDRINUSE if a
        mapping is in the device's way; what pinning raises.
        """
        device = self.get(dev_id, Bound)
        target = self.objects.get(pt_id)
        if target is None:
            raise OSError(errno.ENOENT, f"no object {pt_id}")
        if isinstance(target, Bound):
            raise OSError(errno.EINVAL, f"{pt_id} is a device")
        ioas = target if isinstance(target, Ioas) else target.ioas
        ioas.space.limit(_limits(ioas, page_table=True, attached=True))
        try:
            if isinstance(target, Ioas):
                pt_id = self._own_table(target)
            elif target.dirty is not None and not device.dirty_tracking:
                raise OSError(errno.EINVAL, f"{device.name} can't have dirty bits")
        except OSError:
            self.relax(ioas)
            raise
        self._move(device, pt_id)
        return pt_id

    def detach(self, dev_id: int) -> None:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT; nothing for a device that isn't attached. Raises OSError
        (ENOENT) if there is none of that id.
        """
        self._move(self.get(dev_id, Bound), 0)

    def record(self, dev_id: int, iova: int, length: int) -> None:
        """The device wrote there: for the dirty bits of its page table, if it has them."""
        table = self.objects.get(self.get(dev_id, Bound).table)
        if isinstance(table, PageTable) and table.dirty is not None:
            table.dirty.record(iova, length)

    def translate(self, dev_id: int, iova: int, length: int) -> list[Mapping]:
        """Where the device's DMA goes, in pieces. Raises OSError (EFAULT) where nothing is mapped,
        and for a device that is not attached.
        """
        return self._space(dev_id).translate(iova, length)

    def mappings(self, dev_id: int) -> list[Mapping]:
        """All that the device can reach, in order; nothing while it is not attached."""
        return self._space(dev_id).all()

    # --- objects --------------------------------------------------------------------------------

    def free_id(self) -> int:
        """What the next object is called."""
        while self._lowest in self.objects:
            self._lowest += 1
        return self._lowest

    def add(self, thing: Ioas | PageTable | Bound) -> int:
        """Its id."""
        number = self.free_id()
        self.objects[number] = thing
        return number

    def get(self, number: int, kind: type[T]) -> T:
        """The object of that id. Raises OSError (ENOENT) if there is none of that kind."""
        thing = self.objects.get(number)
        if not isinstance(thing, kind):
            raise OSError(errno.ENOENT, f"no such object: {number}")
        return thing

    def tables(self, ioas: Ioas) -> dict[int, PageTable]:
        """The page tables of an address space."""
        return {
            number: thing
            for number, thing in self.objects.items()
            if isinstance(thing, PageTable) and thing.ioas is ioas
        }

    def admit(self, ioas: Ioas) -> None:
        """Make room for a page table. Raises OSError: EADDRINUSE if a mapping is in its way, what
        pinning raises.
        """
        ioas.space.limit(_limits(ioas, page_table=True, attached=self._any_attached(ioas)))
        try:
            self._pin_all(ioas)
        except OSError:
            self.relax(ioas)
            raise

    def relax(self, ioas: Ioas) -> None:
        """Something left it: its limits are what those that remain ask for."""
        tables = bool(self.tables(ioas))
        limits = _limits(ioas, page_table=tables, attached=self._any_attached(ioas))
        ioas.space.limit(limits)

    def destroy(self, number: int) -> None:
        """IOMMU_DESTROY. Raises OSError: ENOENT for an unknown id, EBUSY if something uses it."""
        thing = self.objects.get(number)
        if thing is None:
            raise OSError(errno.ENOENT, f"no object {number}")
        used = self.tables(thing) if isinstance(thing, Ioas) else self._attached(number)
        if used or isinstance(thing, Bound):
            raise OSError(errno.EBUSY, f"{number} is in use")
        self._remove(number)
        if number == self.vfio_ioas:
            self.vfio_ioas = 0
        if isinstance(thing, PageTable):
            self.relax(thing.ioas)

    def _remove(self, number: int) -> None:
        del self.objects[number]
        self._lowest = min(self._lowest, number)

    def _space(self, dev_id: int) -> IovaSpace:
        table = self.objects.get(self.get(dev_id, Bound).table)
        return table.ioas.space if isinstance(table, PageTable) else IovaSpace()

    def _attached(self, pt_id: int) -> bool:
        return any(isinstance(d, Bound) and d.table == pt_id for d in self.objects.values())

    def _any_attached(self, ioas: Ioas) -> bool:
        return any(self._attached(number) for number in self.tables(ioas))

    def _own_table(self, ioas: Ioas) -> int:
        for number, table in self.tables(ioas).items():
            if table.automatic:
                return number
        self._pin_all(ioas)
        return self.add(PageTable(ioas, None, automatic=True))

    def _pin_all(self, ioas: Ioas) -> None:
        """For the first page table. Raises OSError."""
        if not self.tables(ioas):
            for mapping in ioas.space.all():
                pin(mapping)

    def _move(self, device: Bound, pt_id: int) -> None:
        """Attach it there (0: nowhere) and leave where it was."""
        left, device.table = device.table, pt_id
        table = self.objects.get(left)
        if isinstance(table, PageTable):
            if table.automatic and not self._attached(left):
                self._remove(left)
            self.relax(table.ioas)


def pin(mapping: Mapping) -> None:
    """Have its pages stay where they are for a device. Raises OSError if they can't."""
    if mapping.source is not None:
        mapping.source.pin(mapping.address, mapping.length, writable=mapping.pages_writable)


def _limits(ioas: Ioas, *, page_table: bool, attached: bool) -> Limits:
    """What an address space is limited to by what uses it; hardly without a page table."""
    if not page_table:
        return Limits(1 if ioas.large_pages else PAGE)
    return Limits(PAGE, (MSI_WINDOW, BEYOND) if attached else (BEYOND,))
