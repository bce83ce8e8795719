"""The pattern that the dirtier writes, and the check that a snapshot of it is right.

Each page is filled with one 32-bit value, its own; the first 32 bits are then replaced by the
number of the pass that wrote the page last, the generation. Passes go from the first page to the
last. So at any moment the pages up to some edge have generation g, those from it on g-1: there is
exactly one edge, or none between two passes. A page that is lost, stale, torn, doubled, moved or
zeroed breaks one of the two rules.
"""

import struct
from collections import Counter
from collections.abc import Sequence

from qmptests.guests.protocol import BadPage, Buffer, MemoryReport

PAGE_SIZE = 4096
VALUE_STEP = 0x3C6EF362
"""Added to the value from page to page. Twice an odd number: with an odd first value no value is 0
and none occurs again within 2^31 pages."""

_MODULUS = 1 << 32
_STEP_INVERSE = pow(VALUE_STEP // 2, -1, _MODULUS // 2)
_REPORTED_BAD_PAGES = 10


def page_value(first_value: int, page: int) -> int:
    """The 32-bit value that fills page number `page`."""
    return (first_value + page * VALUE_STEP) % _MODULUS


def page_content(first_value: int, page: int, generation: int) -> bytes:
    """What page number `page` holds once pass number `generation` has written it."""
    value = struct.pack("<I", page_value(first_value, page))
    return struct.pack("<I", generation) + value * (PAGE_SIZE // 4 - 1)


def check_pattern(memory: Buffer, *, address: int, length: int, first_value: int) -> MemoryReport:
    """Check `memory`, a snapshot of `length` bytes at guest-physical `address`.

    Raises ValueError if it is not that long.
    """
    with memoryview(memory) as view, view.cast("B") as octets:
        if len(octets) != length:
            raise ValueError(f"the snapshot has {len(octets)} bytes, the range {length}")
        return _check(octets, address, first_value)


def _check(memory: memoryview, address: int, first_value: int) -> MemoryReport:
    pages = len(memory) // PAGE_SIZE
    generations: list[int] = []
    bad_content: set[int] = set()
    pack, unpack = struct.Struct("<I").pack, struct.Struct("<I").unpack_from
    value = first_value
    for page, start in enumerate(range(0, len(memory), PAGE_SIZE)):
        generations.append(unpack(memory, start)[0])
        # Comparing bytes is a memcmp; comparing memoryviews is not.
        if bytes(memory[start + 4 : start + PAGE_SIZE]) != pack(value) * (PAGE_SIZE // 4 - 1):
            bad_content.add(page)
        value = (value + VALUE_STEP) % _MODULUS

    generation, edge = _best_edge(generations)
    right = [generation] * edge + [(generation - 1) % _MODULUS] * (pages - edge)
    bad_generation = {page for page in range(pages) if generations[page] != right[page]}
    bad = sorted(bad_content | bad_generation)
    described = []
    for page in bad[:_REPORTED_BAD_PAGES]:
        start = page * PAGE_SIZE
        found = bytes(memory[start : start + PAGE_SIZE])
        problem = _problem(found, page_content(first_value, page, right[page]), first_value, pages)
        described.append(BadPage(page, address + start, problem))
    return MemoryReport(
        pages=pages,
        generation=generation,
        edge=edge if edge < pages else None,
        bad_pages=len(bad),
        bad=tuple(described),
    )


def _best_edge(generations: Sequence[int]) -> tuple[int, int]:
    """The generation of the first pages, and how many have it, with the fewest pages against it.

    At least one page has it, so that "all of g" is told in one way only.
    """
    first = generations[0]
    count = generations.count(first)
    rest = len(generations) - count
    if generations == [first] * count + [(first - 1) % _MODULUS] * rest:
        return first, count

    # One of two neighbouring generations is the most frequent one, unless nearly all is wrong.
    frequent = Counter(generations).most_common(1)[0][0]
    best = (-1, 0, 0)
    for generation in (frequent, (frequent + 1) % _MODULUS):
        previous = (generation - 1) % _MODULUS
        agreeing = generations.count(previous)
        for page, found in enumerate(generations):
            agreeing += (found == generation) - (found == previous)
            if agreeing > best[0]:
                best = (agreeing, generation, page + 1)
    return best[1], best[2]


def _problem(found: bytes, right: bytes, first_value: int, pages: int) -> str:
    """What is wrong with a page, as far as its content tells."""
    if not any(found):
        return "is all zeroes"
    generation, value = struct.unpack_from("<II", found)
    if found[4:] == right[4:]:
        (expected,) = struct.unpack_from("<I", right)
        return f"was written last in pass {generation} instead of {expected}"
    if found[4:] == found[4:8] * (PAGE_SIZE // 4 - 1):
        half, odd = divmod((value - first_value) % _MODULUS, 2)
        page = half * _STEP_INVERSE % (_MODULUS // 2)
        if not odd and page < pages:
            return f"holds what belongs to page {page}, of pass {generation}"
    wrong = [offset for offset in range(PAGE_SIZE) if found[offset] != right[offset]]
    at = wrong[0]
    return (
        f"has {len(wrong)} wrong bytes from offset {at:#x}: "
        f"{found[at]:#04x} instead of {right[at]:#04x}"
    )
