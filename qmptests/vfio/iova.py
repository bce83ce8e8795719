"""What an I/O address space maps: the guest's memory as a device sees it.

Errors are those of the kernel's I/O page table (drivers/iommu/iommufd/io_pagetable.c).
"""

import errno
from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

LAST = (1 << 64) - 1
_PAGE = 4096


class Mapping(NamedTuple):
    """`length` bytes from `iova` on are those at `address` in QEMU's memory; with a `file`, which
    is a number of QEMU's, those at offset `address` of it.
    """

    iova: int
    length: int
    address: int
    writable: bool = True
    readable: bool = True
    file: int = -1

    @property
    def last(self) -> int:
        """Its last byte's iova."""
        return self.iova + self.length - 1

    def within(self, first: int, last: int) -> "Mapping":
        """The part of it from `first` to `last`, which overlap it."""
        first, last = max(first, self.iova), min(last, self.last)
        address = self.address + first - self.iova
        return self._replace(iova=first, length=last - first + 1, address=address)


class Limits(NamedTuple):
    """What hardware asks of an address space: alignment, and what it can't use (first and last, in
    order, disjoint).
    """

    alignment: int = 1
    reserved: tuple[tuple[int, int], ...] = ()


class IovaSpace:
    """Mappings by iova; none overlaps another."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._mappings: dict[int, Mapping] = {}
        self.limits = Limits()

    def all(self) -> list[Mapping]:
        """In order."""
        return [self._mappings[start] for start in self._starts]

    def overlapping(self, first: int, last: int) -> list[Mapping]:
        """Those that have a byte from `first` to `last`, in order."""
        begin = max(bisect_right(self._starts, first) - 1, 0)
        end = bisect_right(self._starts, last)
        found = (self._mappings[start] for start in self._starts[begin:end])
        return [mapping for mapping in found if mapping.last >= first]

    def limit(self, limits: Limits) -> None:
        """Hardware joins, or leaves. Raises OSError (EADDRINUSE) if a mapping is in its way."""
        for mapping in self.all():
            unaligned = (mapping.iova | mapping.length | mapping.address) % limits.alignment
            hit = any(f <= mapping.last and mapping.iova <= last for f, last in limits.reserved)
            if unaligned or hit:
                raise OSError(errno.EADDRINUSE, f"{mapping.iova:#x} is mapped")
        self.limits = limits

    def allowed(self) -> list[tuple[int, int]]:
        """First and last of what may be mapped."""
        return _holes(self.limits.reserved)

    def map(self, mapping: Mapping) -> None:
        """Add one. Raises OSError: EINVAL if it is unaligned, empty or where hardware can't have
        it, EOVERFLOW past the end, EEXIST if anything is mapped there.
        """
        alignment, reserved = self.limits
        if not mapping.length or (mapping.length | mapping.iova) % alignment:
            raise OSError(errno.EINVAL, "unaligned")
        if mapping.last > LAST:
            raise OSError(errno.EOVERFLOW, "past the end")
        if any(first <= mapping.last and mapping.iova <= last for first, last in reserved):
            raise OSError(errno.EINVAL, "reserved")
        if self.overlapping(mapping.iova, mapping.last):
            raise OSError(errno.EEXIST, "mapped already")
        if mapping.address % alignment:
            raise OSError(errno.EINVAL, "unaligned")
        insort(self._starts, mapping.iova)
        self._mappings[mapping.iova] = mapping

    def find(self, length: int) -> int:
        """A free iova, never 0, for that many bytes. Raises OSError (ENOSPC) if there is none."""
        used = [(mapping.iova, mapping.last) for mapping in self.all()]
        for first, last in _holes(sorted([(0, _PAGE - 1), *used, *self.limits.reserved])):
            iova = -(-first // _PAGE) * _PAGE
            if iova + length - 1 <= last:
                return iova
        raise OSError(errno.ENOSPC, "no iova is free")

    def unmap(self, iova: int, length: int) -> list[Mapping]:
        """Take away the mappings in a range; those taken.

        Raises OSError: ENOENT if there is none, or at one that the range would split (those before
        it are gone then); EINVAL for no bytes, EOVERFLOW past the end.
        """
        if not length:
            raise OSError(errno.EINVAL, "nothing to unmap")
        last = iova + length - 1
        if last > LAST:
            raise OSError(errno.EOVERFLOW, "past the end")
        taken = []
        for mapping in self.overlapping(iova, last):
            if mapping.iova < iova or mapping.last > last:
                raise OSError(errno.ENOENT, f"a mapping at {mapping.iova:#x} would be split")
            del self._starts[bisect_left(self._starts, mapping.iova)]
            taken.append(self._mappings.pop(mapping.iova))
        if not taken:
            raise OSError(errno.ENOENT, f"nothing is mapped at {iova:#x}")
        return taken

    def translate(self, iova: int, length: int) -> list[Mapping]:
        """The mappings of a range, cut to it. Raises OSError (EFAULT) if a byte of it has none."""
        last = iova + length - 1
        pieces = [mapping.within(iova, last) for mapping in self.overlapping(iova, last)]
        if sum(piece.length for piece in pieces) != length:
            raise OSError(errno.EFAULT, f"not all of {iova:#x} to {last:#x} is mapped")
        return pieces


def _holes(used: "list[tuple[int, int]] | tuple[tuple[int, int], ...]") -> list[tuple[int, int]]:
    """What sorted extents leave free of 64 bits; they may touch and overlap."""
    holes = []
    free = 0
    for first, last in used:
        if free < first:
            holes.append((free, first - 1))
        free = max(free, last + 1)
    if free <= LAST:
        holes.append((free, LAST))
    return holes
