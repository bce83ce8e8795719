"""The log of written pages, against a set of pages."""

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.tracking import MOST_RANGES, DirtyPages

PAGE = 4096
FAR = 1 << 30


class Bitmap:
    """Memory in which nothing but a bitmap lies, at address 4096."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.writes = 0

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.data[address - 4096 : address - 4096 + length])

    def write(self, address: int, data: bytes) -> None:
        assert address - 4096 + len(data) <= len(self.data)
        self.data[address - 4096 : address - 4096 + len(data)] = data
        self.writes += 1


def bits(words: list[tuple[int, bytes]]) -> set[int]:
    """The numbers of the bits that are set."""
    return {
        offset * 8 + number
        for offset, data in words
        for number, bit in enumerate(reversed(f"{int.from_bytes(data, 'little'):b}"))
        if bit == "1"
    }


def refused(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


@st.composite
def extents(draw: st.DrawFn, least: int = 1) -> tuple[int, int]:
    """Bytes here and there, near and far, across the log's inner boundaries (16 MiB)."""
    base = draw(st.sampled_from([0, 4000 * PAGE, FAR - 8 * PAGE]))
    return base + draw(st.integers(0, 300 * PAGE)), draw(st.integers(least, 200 * PAGE))


queries = st.tuples(
    st.sampled_from([0, 3900, 4090, FAR // PAGE - 16]),
    st.integers(0, 256),
    st.integers(0, 400),
    st.sampled_from([PAGE, 2 * PAGE, 16 * PAGE]),
    st.booleans(),
)


@given(
    st.sampled_from([PAGE, 4 * PAGE]),
    st.lists(st.one_of(extents(), queries), max_size=12),
)
def test_a_log_reports_the_pages_that_were_written(size: int, steps: list[Any]) -> None:
    log = DirtyPages()
    log.start(size)
    dirty: set[int] = set()
    for step in steps:
        if len(step) == 2:
            iova, length = step
            log.record(iova, length)
            dirty |= set(range(iova // size, (iova + length - 1) // size + 1))
            continue
        base, more, count, page, clear = step
        begin, length = (base + more) * PAGE, count * PAGE
        end = begin + length
        inside = {n for n in dirty if n * size < end and begin < (n + 1) * size}
        expected = set()
        for number in inside:
            first, last = max(number * size, begin), min((number + 1) * size, end) - 1
            expected |= set(range((first - begin) // page, (last - begin) // page + 1))
        words = log.dirty_words(begin, length, page, clear=clear)
        assert bits(words) == expected
        for offset, data in words:
            assert offset % 8 == len(data) % 8 == 0
            assert offset + len(data) <= -(-length // page // 64) * 8
        if clear:
            dirty -= {n for n in inside if n * size >= begin and (n + 1) * size <= end}


@given(st.lists(extents(), max_size=4), st.lists(extents(), max_size=4))
def test_only_what_is_in_the_ranges_is_logged(
    areas: list[tuple[int, int]], writes: list[tuple[int, Any]]
) -> None:
    ranges, dirty, end = [], set(), 0
    for begin, length in sorted(areas):
        first, last = max(begin // PAGE, end), (begin + length) // PAGE
        if first < last:
            ranges.append((first * PAGE, (last - first) * PAGE))
            end = last
    if not ranges:
        return
    log = DirtyPages()
    log.start(PAGE, reversed(ranges))
    for begin, length in writes:
        log.record(begin, length)
        dirty |= set(range(begin // PAGE, (begin + length - 1) // PAGE + 1))
    tracked = {
        n for begin, length in ranges for n in range(begin // PAGE, (begin + length) // PAGE)
    }
    found = bits(log.dirty_words(0, 1 << 25, PAGE)) | {
        n + (FAR >> 13) for n in bits(log.dirty_words(FAR >> 1, FAR, PAGE))
    }
    assert found == dirty & tracked


@given(st.lists(extents(), max_size=6), st.sets(st.integers(0, 5000)))
def test_bits_that_are_set_in_the_callers_bitmap_stay_set(
    writes: list[tuple[int, Any]], before: set[int]
) -> None:
    log = DirtyPages()
    log.start()
    for begin, length in writes:
        log.record(begin, length)
    memory = Bitmap(1 << 16)
    for number in before:
        memory.data[number // 8] |= 1 << number % 8
    expected = before | bits(log.dirty_words(0, FAR + (1 << 24), PAGE, clear=False))
    log.deliver(memory, 4096, 0, FAR + (1 << 24), PAGE)
    assert bits([(0, bytes(memory.data))]) == expected
    assert not log.dirty_words(0, FAR + (1 << 24), PAGE)


def test_a_clean_log_leaves_the_callers_bitmap_alone() -> None:
    log = DirtyPages()
    log.start()
    memory = Bitmap(0)
    assert log.deliver(memory, 4096, 0, 8 << 30, PAGE) == 0
    assert memory.writes == 0


def test_pages_far_apart_are_not_joined_by_zeros() -> None:
    log = DirtyPages()
    log.start()
    log.record(0, 1)
    log.record(8 << 30, 1)
    words = log.dirty_words(0, 9 << 30, PAGE)
    assert words == [(0, b"\1" + bytes(7)), ((8 << 30) // PAGE // 8, b"\1" + bytes(7))]


def test_a_log_that_is_not_active_notes_nothing_and_says_so() -> None:
    log = DirtyPages()
    log.record(0, PAGE)
    with refused(errno.EINVAL):
        log.dirty_words(0, PAGE, PAGE)
    log.start()
    assert bits(log.dirty_words(0, PAGE, PAGE)) == set()
    log.record(0, PAGE)
    log.stop()
    with refused(errno.EINVAL):
        log.dirty_words(0, PAGE, PAGE)
    log.start()
    assert bits(log.dirty_words(0, PAGE, PAGE)) == set()


def test_a_log_is_started_once() -> None:
    log = DirtyPages()
    log.start()
    with refused(errno.EINVAL):
        log.start()


def test_pages_smaller_than_4096_bytes_are_not_told_apart() -> None:
    assert DirtyPages().start(512, [(512, 1024)]) == PAGE


@pytest.mark.parametrize(
    ("page_size", "ranges", "number"),
    [
        (0, [(0, PAGE)], errno.EINVAL),
        (3 * PAGE, [(0, 3 * PAGE)], errno.EINVAL),
        (PAGE, [], errno.EINVAL),
        (PAGE, [(1, PAGE)], errno.EINVAL),
        (PAGE, [(0, PAGE + 1)], errno.EINVAL),
        (PAGE, [(2 * PAGE, PAGE), (0, 3 * PAGE)], errno.EINVAL),
        (PAGE, [((1 << 64) - PAGE, PAGE)], errno.EOVERFLOW),
        (PAGE, [(n * PAGE, PAGE) for n in range(MOST_RANGES + 1)], errno.E2BIG),
    ],
)
def test_ranges_that_a_log_is_not_started_with(
    page_size: int, ranges: list[tuple[int, int]], number: int
) -> None:
    log = DirtyPages()
    with refused(number):
        log.start(page_size, ranges)
    assert not log.active


def test_as_many_ranges_as_fit_into_a_page_are_taken() -> None:
    log = DirtyPages()
    log.start(PAGE, [(2 * n * PAGE, PAGE) for n in range(MOST_RANGES)])
    log.record(0, 1 << 40)
    assert len(bits(log.dirty_words(0, 1 << 30, PAGE))) == MOST_RANGES == 256


@pytest.mark.parametrize(
    ("iova", "length", "page_size", "number"),
    [
        (0, PAGE, 0, errno.EINVAL),
        (0, PAGE, 2048, errno.EINVAL),
        (0, PAGE, 3 * PAGE, errno.EINVAL),
        ((1 << 64) - PAGE, PAGE, PAGE, errno.EOVERFLOW),
    ],
)
def test_queries_that_are_refused(iova: int, length: int, page_size: int, number: int) -> None:
    log = DirtyPages()
    log.start()
    with refused(number):
        log.dirty_words(iova, length, page_size)


def test_forgotten_pages_are_clean() -> None:
    log = DirtyPages()
    log.start()
    log.record(0, 3 * PAGE)
    log.forget(PAGE, PAGE)
    assert bits(log.dirty_words(0, 3 * PAGE, PAGE)) == {0, 2}
