"""Which pages a device wrote: for DMA logging (VFIO), and for a page table of an iommufd.

Facts: linux/vfio.h (DMA_LOGGING_*), linux/iommufd.h (HWPT_GET_DIRTY_BITMAP), and what the kernel
checks before it asks a driver (drivers/vfio/vfio_main.c).
"""

import contextlib
import errno
from collections.abc import Iterable, Iterator

from qmptests.vfio.calls import Memory
from qmptests.vfio.iova import PAGE

#: The most ranges that one DMA_LOGGING_START may name: as many as fit into a page.
MOST_RANGES = PAGE // 16
_LIMIT = 1 << 64
#: Pages whose bits share one integer.
_CHUNK = 4096
#: 64-bit words of a bitmap that are read and written together, however far apart their bits are.
_PIECE = 64


class DirtyPages:
    """A log of written pages. Only while it is `active` does it note any.

    A query costs next to nothing while no page is dirty, however large its range.
    """

    def __init__(self) -> None:
        self.active = False
        #: Bytes that one bit of the log stands for.
        self.page_size = PAGE
        self._ranges: list[tuple[int, int]] | None = None
        self._chunks: dict[int, int] = {}

    def start(self, page_size: int = PAGE, ranges: Iterable[tuple[int, int]] | None = None) -> int:
        """Note writes to `ranges` (iova and length; None: to anywhere) from now on, with no page
        dirty. The page size that is used, which is never below 4096.

        Raises OSError as DMA_LOGGING_START fails: EINVAL if the log is active already, for a page
        size that is no power of two, for no ranges, and for one that is unaligned or overlaps
        another; E2BIG for more than MOST_RANGES; EOVERFLOW for one that ends past 2^64 - 1.
        """
        _check_page_size(page_size, 1)
        wanted = None if ranges is None else sorted(ranges)
        if wanted is not None:
            _check_ranges(wanted, page_size)
        if self.active:
            raise OSError(errno.EINVAL, "dirty pages are tracked already")
        self.active = True
        self.page_size = max(page_size, PAGE)
        self._ranges = wanted
        self._chunks.clear()
        return self.page_size

    def stop(self) -> None:
        """Note nothing more, and forget what was noted."""
        self.active = False
        self._chunks.clear()

    def record(self, iova: int, length: int) -> None:
        """The device wrote these bytes."""
        if not self.active:
            return
        for begin, size in self._ranges or [(0, _LIMIT)]:
            low, high = max(iova, begin), min(iova + length, begin + size)
            if low < high:
                first, last = low // self.page_size, (high - 1) // self.page_size
                for chunk in range(first // _CHUNK, last // _CHUNK + 1):
                    self._chunks[chunk] = self._chunks.get(chunk, 0) | _mask(chunk, first, last)

    def forget(self, iova: int, length: int) -> None:
        """These pages are clean: they are mapped no longer."""
        for _ in self._runs(iova, iova + length, clear=True):
            pass

    def dirty_words(
        self, iova: int, length: int, page_size: int, *, clear: bool = True, smallest: int = PAGE
    ) -> list[tuple[int, bytes]]:
        """The set bits of a bitmap that begins at `iova`, bit n standing for its nth page.

        Whole little-endian 64-bit words, each with its offset in bytes; what is left out has no
        bit set. A `page_size` above the log's own merges pages, one below repeats them. `clear`:
        pages that lie wholly in the range are clean afterwards.

        Raises OSError as the kernel fails: EINVAL if the log is not active, or for a page size that
        is no power of two or below `smallest`; EOVERFLOW if the range ends past 2^64 - 1. It does
        not insist on alignment (HWPT_GET_DIRTY_BITMAP does; see `page_tables`).
        """
        _check_page_size(page_size, smallest)
        end = iova + length
        if end >= _LIMIT:
            raise OSError(errno.EOVERFLOW, f"{iova:#x} and {length:#x} exceed 64 bits")
        if not self.active:
            raise OSError(errno.EINVAL, "dirty pages are not tracked")
        words: list[tuple[int, bytes]] = []
        at, bits = 0, 0
        for begin, stop in self._runs(iova, end, clear=clear):
            low, high = (begin - iova) // page_size, (stop - 1 - iova) // page_size
            if low // 64 - at >= _PIECE:
                if bits:
                    words.append(_piece(at, bits))
                at, bits = low // 64, 0
            bits |= ((1 << (high - low + 1)) - 1) << (low - at * 64)
        if bits:
            words.append(_piece(at, bits))
        return words

    def deliver(
        self,
        memory: Memory,
        bitmap: int,
        iova: int,
        length: int,
        page_size: int,
        *,
        clear: bool = True,
        smallest: int = PAGE,
    ) -> int:
        """Set the bits of `dirty_words` in the bitmap at that address, as the kernel does: those
        that are set there stay set. How many words were looked at. Raises OSError as above, but
        not where there is no memory for the bitmap: those bits are lost (iova_bitmap_set).
        """
        count = 0
        words = self.dirty_words(iova, length, page_size, clear=clear, smallest=smallest)
        for offset, word in words:
            with contextlib.suppress(OSError):
                before = int.from_bytes(memory.read(bitmap + offset, len(word)), "little")
                after = before | int.from_bytes(word, "little")
                if after != before:
                    memory.write(bitmap + offset, after.to_bytes(len(word), "little"))
            count += len(word) // 8
        return count

    def _runs(self, iova: int, end: int, *, clear: bool) -> Iterator[tuple[int, int]]:
        """Where dirty bytes begin and end within a range, in order; whole pages are cleared."""
        size = self.page_size
        for chunk in sorted(self._chunks):
            found = self._chunks[chunk] & _mask(chunk, iova // size, (end - 1) // size)
            if not found:
                continue
            if clear:
                self._chunks[chunk] &= ~_mask(chunk, -(-iova // size), end // size - 1)
                if not self._chunks[chunk]:
                    del self._chunks[chunk]
            page = chunk * _CHUNK
            while found:
                skipped = (found & -found).bit_length() - 1
                found >>= skipped
                count = (found ^ (found + 1)).bit_length() - 1
                found >>= count
                page += skipped
                yield max(page * size, iova), min((page + count) * size, end)
                page += count


def _mask(chunk: int, first: int, last: int) -> int:
    """The bits of the pages from `first` to `last` in that chunk."""
    low = max(first - chunk * _CHUNK, 0)
    high = min(last - chunk * _CHUNK, _CHUNK - 1)
    return (1 << (high + 1)) - (1 << low) if low <= high else 0


def _piece(at: int, bits: int) -> tuple[int, bytes]:
    """Bits that count from word `at`, as whole words."""
    return at * 8, bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")


def _check_page_size(page_size: int, least: int) -> None:
    if page_size < least or page_size & (page_size - 1):
        raise OSError(errno.EINVAL, f"no size of a page: {page_size}")


def _check_ranges(ranges: list[tuple[int, int]], page_size: int) -> None:
    """`ranges` is sorted."""
    if not ranges:
        raise OSError(errno.EINVAL, "no ranges to track")
    if len(ranges) > MOST_RANGES:
        raise OSError(errno.E2BIG, f"{len(ranges)} ranges to track")
    end = 0
    for iova, length in ranges:
        if iova % page_size or length % page_size or iova < end:
            raise OSError(errno.EINVAL, f"range {iova:#x} is unaligned or overlaps another")
        end = iova + length
        if end >= _LIMIT:
            raise OSError(errno.EOVERFLOW, f"{iova:#x} and {length:#x} exceed 64 bits")
