"""What an I/O address space maps: the guest's memory as a device sees it.

Errors are those of the kernel's I/O page table (drivers/iommu/iommufd/io_pagetable.c).
"""

import errno
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import NamedTuple, Protocol

LAST = (1 << 64) - 1
PAGE = 4096
_HUGE_PAGE = 2 << 20


class Source(Protocol):
    """What is mapped: a process's memory, or a file. All raise OSError.

    `is_file`: whether it is a file, which another process can go on with.
    """

    @property
    def is_file(self) -> bool: ...

    def pin(self, offset: int, length: int, *, writable: bool) -> None:
        """See to it that a device can reach these bytes; the error is what the kernel answers."""

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...


class Mapping(NamedTuple):
    """`length` bytes from `iova` on are those at offset `address` of `source`; without one there
    is only the mapping. `pages_writable`: whether it, or a copy of it, may write to them.
    """

    iova: int
    length: int
    address: int
    writable: bool = True
    readable: bool = True
    source: Source | None = None
    pages_writable: bool = True

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
    """Mappings by iova; none overlaps another.

    `allowed`: first and last of each range in which `find` looks, none for anywhere.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._mappings: dict[int, Mapping] = {}
        self.limits = Limits()
        self.allowed: list[tuple[int, int]] = []

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
        """Hardware joins, or leaves. Raises OSError (EADDRINUSE) if a mapping, or a range that is
        allowed, is in its way.
        """
        alignment, reserved = limits
        for mapping in self.all():
            if (mapping.iova | mapping.length | mapping.address) % alignment:
                raise OSError(errno.EADDRINUSE, f"{mapping.iova:#x} is mapped, unaligned")
            if _overlaps(mapping.iova, mapping.last, reserved):
                raise OSError(errno.EADDRINUSE, f"{mapping.iova:#x} is mapped")
        if any(_overlaps(*extent, reserved) for extent in self.allowed):
            raise OSError(errno.EADDRINUSE, "what is allowed is reserved")
        self.limits = limits

    def allow(self, ranges: list[tuple[int, int]]) -> None:
        """Let `find` look there alone; sorted, disjoint. Raises OSError (EADDRINUSE) if hardware
        can't have one.
        """
        if any(_overlaps(*extent, self.limits.reserved) for extent in ranges):
            raise OSError(errno.EADDRINUSE, "what is to be allowed is reserved")
        self.allowed = []
        for first, last in ranges:
            touches = self.allowed and self.allowed[-1][1] + 1 == first
            self.allowed.append((self.allowed.pop()[0] if touches else first, last))

    def usable(self) -> list[tuple[int, int]]:
        """First and last of what may be mapped."""
        return _holes(self.limits.reserved)

    def map(self, *mappings: Mapping) -> None:
        """Add some that follow each other. Raises OSError: EINVAL if it is unaligned, empty or
        where hardware can't have it, EOVERFLOW past the end, EEXIST if anything is mapped there,
        EPERM to write to pages that are not to be written.
        """
        alignment, reserved = self.limits
        first = mappings[0].iova
        length = sum(mapping.length for mapping in mappings)
        self.check_length(length)
        if first % alignment:
            raise OSError(errno.EINVAL, "unaligned")
        last = first + length - 1
        if last > LAST:
            raise OSError(errno.EOVERFLOW, "past the end")
        if _overlaps(first, last, reserved):
            raise OSError(errno.EINVAL, "reserved")
        if self.overlapping(first, last):
            raise OSError(errno.EEXIST, "mapped already")
        for mapping in mappings:
            if mapping.writable and not mapping.pages_writable:
                raise OSError(errno.EPERM, "its pages are not to be written")
            if mapping.address % alignment:
                raise OSError(errno.EINVAL, "unaligned")
        for mapping in mappings:
            insort(self._starts, mapping.iova)
            self._mappings[mapping.iova] = mapping

    def check_length(self, length: int) -> None:
        """Raise OSError (EINVAL) for a length that no mapping can have here."""
        if not length or length % self.limits.alignment:
            raise OSError(errno.EINVAL, "unaligned")

    def find(self, length: int, address: int = 0) -> int:
        """A free iova, never 0, for that many bytes, as aligned as `address` allows, so that large
        pages fit (iopt_alloc_iova). Raises OSError: ENOSPC if there is none, EINVAL for an address
        that is not aligned as hardware wants it, EOVERFLOW for half of all addresses and more.
        """
        if not 0 < length < LAST // 2:
            raise OSError(errno.EOVERFLOW, "more than there can be")
        alignment = min(1 << (length - 1).bit_length(), _HUGE_PAGE, address & -address or LAST)
        if alignment < self.limits.alignment:
            raise OSError(errno.EINVAL, "unaligned")
        mapped = [(mapping.iova, mapping.last) for mapping in self.all()]
        holes = _holes(sorted([*mapped, *self.limits.reserved]))
        for first, last in self.allowed or [(0, LAST)]:
            begin, end = max(first, PAGE), min(last, LAST - PAGE)
            for low, high in holes:
                iova = -(-max(low, begin) // alignment) * alignment | address % PAGE
                if iova < min(high, end) and min(high, end) - iova >= length - 1:
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

    def mapped_length(self, iova: int, length: int) -> int:
        """Of how many bytes from `iova` on, at most `length`, each is mapped."""
        end = iova
        for mapping in self.overlapping(iova, iova + length - 1):
            if mapping.iova > end:
                break
            end = min(mapping.last + 1, iova + length)
        return end - iova

    def translate(self, iova: int, length: int) -> list[Mapping]:
        """The mappings of a range, cut to it. Raises OSError (EFAULT) if a byte of it has none."""
        last = iova + length - 1
        pieces = [mapping.within(iova, last) for mapping in self.overlapping(iova, last)]
        if sum(piece.length for piece in pieces) != length:
            raise OSError(errno.EFAULT, f"not all of {iova:#x} to {last:#x} is mapped")
        return pieces


def _overlaps(first: int, last: int, extents: Iterable[tuple[int, int]]) -> bool:
    return any(begin <= last and first <= end for begin, end in extents)


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
