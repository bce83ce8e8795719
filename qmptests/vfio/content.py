"""The bytes of a device's data stream: made for the source, every one of them checked on arrival.

A stream consists of pages of 4 KiB. Each begins with a header of four little-endian 64-bit words:

- a magic number
- one that belongs to the seed and the device
- the page's number, from 0
- its kind (3 bits) and generation (18 bits), three times over

All else is pseudorandom, and differs by seed, device and position. An END page, the last of its
stream, has a fifth word: the length of the stream. So a byte follows from its position, from the
kind and generation of its page, from seed and device, and from nothing else: a stream is the same
however it is cut into reads. A device that starts anew on a fresh data descriptor begins at 0.
"""

import hashlib
from array import array
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from qmptests.vfio.calls import Kind, Span

PAGE = 4096
#: In memory it reads "qmptests".
MAGIC = int.from_bytes(b"qmptests", "little")

#: What `Content.damage` can do to the bytes of a read.
FLIP, DROP, DOUBLE, SWAP = "flip", "drop", "double", "swap"
WRONG_MAGIC, FOREIGN = "magic", "foreign"
DAMAGE = (FLIP, DROP, DOUBLE, SWAP, WRONG_MAGIC, FOREIGN)

_WORDS = PAGE // 8
_THIRD = 21
_KINDS = frozenset(Kind)
#: Bytes that are copied at a time: so few that they stay in a core's own cache.
_BLOCK = 256 << 10
#: A block's bytes begin at one of these places in the pseudorandom ones, neighbours' far apart.
_PLACES = 8192
_STRIDE = 5077


class Content:
    """The stream of one device. Equal seeds and names give equal streams, on any machine."""

    def __init__(self, seed: int, device: str) -> None:
        self._seed = seed
        self._device = device
        made = hashlib.shake_128(f"{seed}/{device}".encode()).digest(8 + _BLOCK + 8 * _PLACES)
        self.identity = int.from_bytes(made[:8], "little")
        self._random = memoryview(made)[8:]

    def fill(self, buffer: bytearray | memoryview, spans: Sequence[Span]) -> int:
        """Put the bytes of `spans` into `buffer`, one after the other; how many they are.

        Fast for spans that begin and end where a page does.
        """
        view = memoryview(buffer)
        done = 0
        for start, length, kind, generation in spans:
            position, end = start, start + length
            while position < end:
                number, into = divmod(position, PAGE)
                size = (end - position) // PAGE * PAGE
                if size and not into:
                    self._pages(view[done : done + size], number, kind, generation)
                else:
                    size = min(PAGE - into, end - position)
                    page = self.page(number, kind, generation)
                    view[done : done + size] = page[into : into + size]
                done += size
                position += size
        return done

    def page(self, number: int, kind: Kind, generation: int) -> bytearray:
        """One page."""
        page = bytearray(PAGE)
        self._pages(memoryview(page), number, kind, generation)
        return page

    def _pages(self, view: memoryview, number: int, kind: Kind, generation: int) -> None:
        """Fill `view` with the pages from `number` on."""
        at, size = 0, len(view)
        while at < size:
            block, into = divmod(number * PAGE + at, _BLOCK)
            begin = block * _STRIDE % _PLACES * 8 + into
            length = min(_BLOCK - into, size - at)
            view[at : at + length] = self._random[begin : begin + length]
            at += length
        words, count = view.cast("Q"), size // PAGE
        words[0::_WORDS] = array("Q", [MAGIC]) * count
        words[1::_WORDS] = array("Q", [self.identity]) * count
        words[2::_WORDS] = array("Q", range(number, number + count))
        words[3::_WORDS] = array("Q", [_encode(kind, generation)]) * count
        if kind is Kind.END:
            ends = range((number + 1) * PAGE, (number + count + 1) * PAGE, PAGE)
            words[4::_WORDS] = array("Q", ends)

    def damage(self, buffer: bytearray | memoryview, span: Span, how: str) -> None:
        """Falsify the bytes of `span`, which lie in `buffer`. `how` is one of `DAMAGE`:

        - flip: one bit, in the middle
        - drop: the first page is missing, the others move up, and the page that follows the span
          comes at its end; what is read next is in its right place again
        - double: the first page stands in the second one's place as well
        - swap: the first and the second page have changed places
        - magic: the first page has a wrong magic number
        - foreign: the first page is that of another device

        The first page is the first that begins in the span. If the span holds no second one,
        the page that would follow stands in place of the first; if it holds no page at all, a bit
        is flipped. Raises ValueError for another word.
        """
        if how not in DAMAGE:
            raise ValueError(f"data can't be damaged by '{how}': {', '.join(DAMAGE)}")
        view = memoryview(buffer)
        first = -span.start % PAGE
        count = (span.length - first) // PAGE
        second, end = first + PAGE, first + count * PAGE
        number = (span.start + first) // PAGE
        if count < 1 or how == FLIP:
            if span.length:
                view[span.length // 2] ^= 0x10
        elif how == WRONG_MAGIC:
            view[first : first + 8] = b"no magic"
        elif how == FOREIGN:
            other = Content(self._seed, f"another than {self._device}")
            view[first:second] = other.page(number, span.kind, span.generation)
        elif how == DROP or count == 1:
            view[first : end - PAGE] = bytes(view[second:end])
            view[end - PAGE : end] = self.page(number + count, span.kind, span.generation)
        else:
            page = bytes(view[first:second])
            if how == SWAP:
                view[first:second] = view[second : second + PAGE]
            view[second : second + PAGE] = page

    def plausible(self, last: bytes, length: int) -> str:
        """A cheap look at a stream of `length` bytes whose last 4 KiB are `last`.

        What is wrong with its end, in words; "" if it is an END page at the right place.
        """
        if not length or length % PAGE:
            return _no_end(length)
        number = length // PAGE - 1
        known = _decode(int.from_bytes(last[24:32], "little"))
        if known is None or last != self.page(number, *known):
            return _explain(self, last, number)
        return "" if known[0] is Kind.END else _no_end(length)


class Verdict(NamedTuple):
    """What a check found: the first problem in words, "" for none, and the pieces before it.

    `chunks`: kind, generation and length in bytes of each piece, in the order of the stream.
    """

    problem: str
    chunks: list[tuple[Kind, int, int]]


class Checker:
    """Checks a stream while it is fed, from its beginning, in pieces of any size."""

    def __init__(self, content: Content) -> None:
        #: The first thing that is wrong, in words; nothing is looked at after it.
        self.problem = ""
        self._content = content
        self._chunks: list[tuple[Kind, int, int]] = []
        self._position = 0
        self._last = (Kind.INITIAL, 0)
        self._expected = bytearray(_BLOCK)
        self._rest = bytearray()  # the beginning of a page

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes of the stream."""
        view = memoryview(data)
        if self._rest:
            missing = PAGE - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < PAGE:
                return
            self._block(memoryview(self._rest))
            self._rest = bytearray()
        whole = len(view) // PAGE * PAGE
        for at in range(0, whole, _BLOCK):
            self._block(view[at : min(at + _BLOCK, whole)])
        self._rest += view[whole:]

    def finish(self) -> Verdict:
        """The stream ends here."""
        if not self.problem:
            if self._last[0] is not Kind.END:
                self.problem = _no_end(self._position + len(self._rest))
            elif self._rest:
                self.problem = self._after_end()
        return Verdict(self.problem, self._chunks)

    def _block(self, view: memoryview) -> None:
        """Check whole pages."""
        at = 0
        for word, run in groupby(view.cast("Q")[3::_WORDS].tolist()):
            size = len(list(run)) * PAGE
            for length in (PAGE, size - PAGE) if word & 7 == Kind.END else (size,):
                if length and not self.problem:
                    self._run(view[at : at + length], word)
                at += length

    def _run(self, view: memoryview, word: int) -> None:
        """Check pages that say the same of themselves."""
        known, number, size = _decode(word), self._position // PAGE, len(view)
        if self._last[0] is Kind.END:
            self.problem = self._after_end()
        elif known is None or not self._equal(view, known):
            pages = (bytes(view[at : at + PAGE]) for at in range(0, size, PAGE))
            problems = (_explain(self._content, p, n) for n, p in enumerate(pages, number))
            self.problem = next(filter(None, problems))
        elif not _follows(self._last, known):
            self.problem = (
                f"{_where(number)} is {_words(known)}, which can't follow {_words(self._last)}"
            )
        else:
            self._position += size
            if self._chunks and self._last == known:
                size += self._chunks.pop()[2]
            self._chunks.append((*known, size))
            self._last = known

    def _equal(self, view: memoryview, known: tuple[Kind, int]) -> bool:
        size = len(view)
        # Only whole byte arrays are compared at the speed of memory, and a new one costs time.
        expected = self._expected if size == len(self._expected) else bytearray(size)
        self._content.fill(expected, [Span(self._position, size, *known)])
        return expected == view

    def _after_end(self) -> str:
        return f"more bytes come after the END page, from byte {self._position} on"


def _encode(kind: Kind, generation: int) -> int:
    """The word of a header that says both: of the three, two survive any flipped bit."""
    return (kind | generation << 3) * (1 | 1 << _THIRD | 1 << 2 * _THIRD)


def _readings(word: int) -> list[tuple[Kind, int]]:
    """What the three say, where it is something."""
    thirds = [word >> n * _THIRD & (1 << _THIRD) - 1 for n in range(3)]
    return [(Kind(third & 7), third >> 3) for third in thirds if third & 7 in _KINDS]


def _decode(word: int) -> tuple[Kind, int] | None:
    return next(iter(_readings(word)), None)


def _follows(last: tuple[Kind, int], known: tuple[Kind, int]) -> bool:
    """Whether a device can deliver one after the other.

    Of a generation that begins and is over between two reads there is nothing to see.
    """
    return last[1] <= known[1] and not known[0] < Kind.STOP_COPY <= last[0]


def _words(known: tuple[Kind, int]) -> str:
    return f"{known[0].name} of generation {known[1]}"


def _where(number: int) -> str:
    return f"page {number} (from byte {number * PAGE} on)"


def _no_end(length: int) -> str:
    inside = ", in the middle of a page" if length % PAGE else ""
    return f"the stream ends after {length} bytes{inside}, without its END page"


def _explain(content: Content, got: bytes, number: int) -> str:
    """What is wrong with a page, in words; "" for nothing."""
    magic, identity, position, word = memoryview(got)[:32].cast("Q").tolist()
    known, where = _decode(word), _where(number)
    for meant in _readings(word):
        expected = content.page(number, *meant)
        if got == expected:
            return ""
        wrong = [at for at in range(PAGE) if got[at] != expected[at]]
        at = wrong[0]
        first = f"byte {number * PAGE + at} is {got[at]:#04x} instead of {expected[at]:#04x}"
        if len(wrong) == 1 and (got[at] ^ expected[at]).bit_count() == 1:
            return f"{where} has one bit flipped: {first}"
    if magic != MAGIC:
        return f"{where} has a wrong magic number: {magic:#018x} instead of {MAGIC:#018x}"
    if identity != content.identity:
        return f"{where} is a page of another device, or of another seed"
    if known is None:
        return f"{where} has a kind that there is not: {word:#018x}"
    if position != number:
        if position < 1 << 52 and got == content.page(position, *known):
            return f"{where} holds what belongs at page {position}: swapped, doubled or shifted"
        return f"{where} says that it is page {position}"
    return f"{where} differs in {len(wrong)} bytes, the first: {first}"
