"""The check of the dirtier's memory sees whatever a migration can do wrong to it."""

import itertools
import mmap
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qmptests.guests.pattern import PAGE_SIZE, check_pattern, page_content, page_value
from qmptests.guests.protocol import Buffer, MemoryReport

ADDRESS = 1 << 20
FIRST_VALUE = 0x85EBCA6B


def snapshot(pages: int, generation: int, edge: int) -> bytearray:
    """Memory when pass `generation` has reached page `edge`."""
    return bytearray().join(
        page_content(FIRST_VALUE, page, (generation - (page >= edge)) % (1 << 32))
        for page in range(pages)
    )


def check(memory: Buffer) -> MemoryReport:
    return check_pattern(memory, address=ADDRESS, length=len(memory), first_value=FIRST_VALUE)


def page_of(memory: bytearray, page: int) -> slice:
    assert (page + 1) * PAGE_SIZE <= len(memory)
    return slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)


def one_edge_at_most(memory: bytearray) -> bool:
    """The rule about generations once more, in other words: no step but one down by one."""
    found = [int.from_bytes(memory[i : i + 4], "little") for i in range(0, len(memory), PAGE_SIZE)]
    steps = [(a - b) % (1 << 32) for a, b in itertools.pairwise(found)]
    return set(steps) <= {0, 1} and sum(steps) <= 1


@st.composite
def snapshots(draw: st.DrawFn, at_least: int = 1) -> tuple[bytearray, int]:
    """Right memory, and how many pages it has."""
    pages = draw(st.integers(at_least, 12))
    generation = draw(st.integers(0, 5) | st.integers(0, (1 << 32) - 1))
    edge = draw(st.integers(1, pages))
    return snapshot(pages, generation, edge), pages


@given(
    pages=st.integers(1, 12),
    generation=st.integers(0, 2) | st.integers(0, (1 << 32) - 1),
    data=st.data(),
)
def test_right_memory_is_right_and_its_edge_is_found(
    pages: int, generation: int, data: st.DataObject
) -> None:
    edge = data.draw(st.integers(1, pages))
    report = check(snapshot(pages, generation, edge))
    assert report == MemoryReport(
        pages=pages,
        generation=generation,
        edge=edge if edge < pages else None,
        bad_pages=0,
        bad=(),
    )
    assert report.right


@given(snapshots(), st.data())
def test_any_other_byte_is_seen(
    memory_and_pages: tuple[bytearray, int], data: st.DataObject
) -> None:
    memory, _ = memory_and_pages
    at = data.draw(st.integers(0, len(memory) - 1))
    memory[at] ^= data.draw(st.integers(1, 255))
    # A generation may become one that is right there: page 0 alone, or the page at the edge.
    assume(at % PAGE_SIZE >= 4 or not one_edge_at_most(memory))
    report = check(memory)
    assert not report.right
    if at % PAGE_SIZE >= 4:
        (bad,) = report.bad
        assert (bad.page, bad.address) == (at // PAGE_SIZE, ADDRESS + at // PAGE_SIZE * PAGE_SIZE)
        assert f"has 1 wrong bytes from offset {at % PAGE_SIZE:#x}" in bad.problem


@given(snapshots(at_least=2), st.data())
def test_two_swapped_pages_are_seen(
    memory_and_pages: tuple[bytearray, int], data: st.DataObject
) -> None:
    memory, pages = memory_and_pages
    a, b = data.draw(st.lists(st.integers(0, pages - 1), min_size=2, max_size=2, unique=True))
    memory[page_of(memory, a)], memory[page_of(memory, b)] = (
        memory[page_of(memory, b)],
        memory[page_of(memory, a)],
    )
    report = check(memory)
    problems = {bad.page: bad.problem for bad in report.bad}
    assert f"belongs to page {b}," in problems[a]
    assert f"belongs to page {a}," in problems[b]


@given(snapshots(at_least=2), st.data())
def test_a_page_that_is_there_twice_is_seen(
    memory_and_pages: tuple[bytearray, int], data: st.DataObject
) -> None:
    memory, pages = memory_and_pages
    a, b = data.draw(st.lists(st.integers(0, pages - 1), min_size=2, max_size=2, unique=True))
    memory[page_of(memory, b)] = memory[page_of(memory, a)]
    problems = {bad.page: bad.problem for bad in check(memory).bad}
    assert f"belongs to page {a}," in problems[b]


@given(snapshots(), st.data())
def test_a_zeroed_page_is_seen(
    memory_and_pages: tuple[bytearray, int], data: st.DataObject
) -> None:
    memory, pages = memory_and_pages
    page = data.draw(st.integers(0, pages - 1))
    memory[page_of(memory, page)] = bytes(PAGE_SIZE)
    problems = {bad.page: bad.problem for bad in check(memory).bad}
    assert problems[page] == "is all zeroes"


@given(snapshots(at_least=3), st.data())
def test_a_torn_page_is_seen(memory_and_pages: tuple[bytearray, int], data: st.DataObject) -> None:
    memory, pages = memory_and_pages
    page = data.draw(st.integers(0, pages - 1))
    cut = data.draw(st.integers(8, PAGE_SIZE - 1))
    memory[page * PAGE_SIZE + cut : (page + 1) * PAGE_SIZE] = bytes(PAGE_SIZE - cut)
    assert [bad.page for bad in check(memory).bad] == [page]


@given(st.integers(3, 12), st.integers(0, (1 << 32) - 1), st.data())
def test_a_second_edge_is_seen(pages: int, generation: int, data: st.DataObject) -> None:
    edge = data.draw(st.integers(2, pages))
    memory = snapshot(pages, generation, edge)
    stale = data.draw(st.integers(0, edge - 2))
    previous = (generation - 1) % (1 << 32)
    memory[page_of(memory, stale)] = page_content(FIRST_VALUE, stale, previous)
    assume(not one_edge_at_most(memory))
    assert not check(memory).right


def test_a_stale_page_is_named_with_both_passes() -> None:
    memory = snapshot(16, 7, 10)
    memory[page_of(memory, 3)] = page_content(FIRST_VALUE, 3, 6)
    (bad,) = check(memory).bad
    assert (bad.page, bad.problem) == (3, "was written last in pass 6 instead of 7")


def test_a_page_lost_at_the_edge_is_seen_once_the_guest_has_gone_on() -> None:
    memory = snapshot(16, 7, 10)
    memory[page_of(memory, 9)] = page_content(FIRST_VALUE, 9, 6)
    assert check(memory).edge == 9
    memory[page_of(memory, 10)] = page_content(FIRST_VALUE, 10, 7)
    assert not check(memory).right


def test_a_bad_first_page_does_not_make_the_others_bad() -> None:
    memory = snapshot(16, 7, 16)
    memory[page_of(memory, 0)] = b"\xff" * PAGE_SIZE
    report = check(memory)
    assert (report.generation, report.edge, report.bad_pages) == (7, None, 1)


def test_ten_bad_pages_are_described_and_all_are_counted() -> None:
    report = check(bytearray(64 * PAGE_SIZE))
    assert report.bad_pages == 64
    assert [bad.page for bad in report.bad] == list(range(10))


def test_memory_that_was_never_filled_is_not_right() -> None:
    assert not check(bytearray(PAGE_SIZE)).right


def test_a_snapshot_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="4096 bytes, the range 8192"):
        check_pattern(bytes(4096), address=ADDRESS, length=8192, first_value=FIRST_VALUE)


def test_no_two_pages_below_2_gib_have_the_same_value() -> None:
    pages = (2 << 30) // PAGE_SIZE
    assert len({page_value(FIRST_VALUE, page) for page in range(pages)} - {0}) == pages


def test_16_mib_are_checked_in_less_than_50_ms() -> None:
    with mmap.mmap(-1, 16 << 20) as memory:
        memory[:] = bytes(snapshot(4096, 3, 1234))
        took = []
        for _ in range(3):
            start = time.perf_counter()
            assert check(memory).right
            took.append(time.perf_counter() - start)
    assert min(took) < 0.050
