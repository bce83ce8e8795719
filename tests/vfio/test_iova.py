"""An address space, against a dictionary of pages."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.iova import LAST, IovaSpace, Limits, Mapping
from qmptests.vfio.sources import FileSource

PAGE = 4096
LIMITS = Limits(PAGE, ((12 * PAGE, 14 * PAGE - 1), (30 * PAGE, LAST)))


def number_of(action: Callable[..., Any], *arguments: Any) -> int:
    """The errno by which it fails, or 0."""
    try:
        action(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["map", "unmap", "translate"]),
        st.integers(0, 34),
        st.integers(1, 12),
        st.booleans(),
    ),
    max_size=40,
)


@given(steps)
def test_an_address_space_maps_as_a_dictionary_of_pages_would(steps: list[Any]) -> None:
    space = IovaSpace()
    space.limit(LIMITS)
    pages: dict[int, tuple[int, int, bool]] = {}  # which mapping, address, writable
    for turn, (action, first, count, writable) in enumerate(steps):
        iova, length = first * PAGE, count * PAGE
        wanted = range(first, first + count)
        if action == "map":
            mapping = Mapping(iova, length, (1000 * turn + 1000) * PAGE, writable)
            bad = any(12 <= page < 14 or page >= 30 for page in wanted)
            there = any(page in pages for page in wanted)
            expected = errno.EINVAL if bad else errno.EEXIST if there else 0
            assert number_of(space.map, mapping) == expected
            if not expected:
                pages |= {
                    page: (turn, mapping.address + (page - first) * PAGE, writable)
                    for page in wanted
                }
        elif action == "unmap":
            gone, expected = set(), 0
            for page in wanted:
                if page in pages and page not in gone:
                    whole = {p for p, entry in pages.items() if entry[0] == pages[page][0]}
                    if not whole <= set(wanted):
                        expected = errno.ENOENT
                        break
                    gone |= whole
            expected = expected or (0 if gone else errno.ENOENT)
            assert number_of(space.unmap, iova, length) == expected
            pages = {page: entry for page, entry in pages.items() if page not in gone}
        else:
            expected = 0 if all(page in pages for page in wanted) else errno.EFAULT
            assert number_of(space.translate, iova, length) == expected
            if not expected:
                found = {
                    (piece.iova + at) // PAGE: (piece.address + at, piece.writable)
                    for piece in space.translate(iova, length)
                    for at in range(0, piece.length, PAGE)
                }
                assert found == {page: pages[page][1:] for page in wanted}
    mapped = {m.iova // PAGE + n for m in space.all() for n in range(m.length // PAGE)}
    assert mapped == set(pages)


def test_a_translation_begins_and_ends_within_a_mapping() -> None:
    space = IovaSpace()
    file = FileSource(os.memfd_create("file"))
    space.map(Mapping(0, 2 * PAGE, 0x10000))
    space.map(Mapping(2 * PAGE, PAGE, 0x80000, writable=False, source=file))
    pieces = space.translate(100, 2 * PAGE)
    assert pieces == [
        Mapping(100, 2 * PAGE - 100, 0x10000 + 100),
        Mapping(2 * PAGE, 100, 0x80000, writable=False, source=file),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 29), st.integers(1, 5)), max_size=8),
    st.integers(1, 20),
)
def test_a_free_iova_is_free_and_never_zero(areas: list[tuple[int, int]], count: int) -> None:
    space = IovaSpace()
    space.limit(LIMITS)
    used = set(range(12, 14)) | {0}
    for first, pages in areas:
        mapping = Mapping(first * PAGE, pages * PAGE, 0)
        if not number_of(space.map, mapping):
            used |= set(range(first, first + pages))
    fits = [n for n in range(30 - count + 1) if not used & set(range(n, n + count))]
    if fits:
        assert space.find(count * PAGE, PAGE) == fits[0] * PAGE
    else:
        assert number_of(space.find, count * PAGE, PAGE) == errno.ENOSPC


MIB = 1 << 20


@pytest.mark.parametrize(
    ("length", "address", "iova"),
    [
        (PAGE, 0, PAGE),
        (3 * PAGE, 0, 4 * PAGE),
        (3 * PAGE, 2 * PAGE, 2 * PAGE),
        (3 * PAGE, PAGE, PAGE),
        (64 * MIB, 64 * MIB, 2 * MIB),
        (PAGE, 0x1234, 0x1234),
    ],
)
def test_a_free_iova_is_as_aligned_as_what_is_mapped(length: int, address: int, iova: int) -> None:
    """So that large pages fit, of 2 MiB at most; what is within a page is kept."""
    assert IovaSpace().find(length, address) == iova


def test_a_free_iova_is_where_it_is_allowed() -> None:
    space = IovaSpace()
    space.limit(LIMITS)
    space.allow([(20 * PAGE, 23 * PAGE - 1)])
    space.map(Mapping(21 * PAGE, PAGE, 0))
    assert space.find(PAGE) == 20 * PAGE
    assert number_of(space.find, 2 * PAGE) == errno.ENOSPC
    assert number_of(space.allow, [(13 * PAGE, 20 * PAGE)]) == errno.EADDRINUSE
    assert space.find(PAGE) == 20 * PAGE
    taken = Limits(PAGE, ((22 * PAGE, LAST),))
    assert number_of(space.limit, taken) == errno.EADDRINUSE
    space.allow([])
    assert space.find(PAGE) == PAGE


def test_what_is_mapped_without_a_gap_is_measured() -> None:
    space = IovaSpace()
    for page in (1, 2, 4):
        space.map(Mapping(page * PAGE, PAGE, 0))
    assert [space.mapped_length(page * PAGE, 5 * PAGE) for page in range(5)] == [
        0,
        2 * PAGE,
        PAGE,
        0,
        PAGE,
    ]
    assert space.mapped_length(PAGE + 8, PAGE) == PAGE


def test_what_hardware_reserves_is_not_usable() -> None:
    space = IovaSpace()
    assert space.usable() == [(0, LAST)]
    space.limit(LIMITS)
    assert space.usable() == [(0, 12 * PAGE - 1), (14 * PAGE, 30 * PAGE - 1)]


@pytest.mark.parametrize(
    "mapping",
    [
        Mapping(13 * PAGE, PAGE, 0),
        Mapping(PAGE // 2, PAGE, 0),
        Mapping(0, 100, 0),
        Mapping(0, PAGE, 1),
    ],
)
def test_hardware_does_not_join_where_a_mapping_is_in_its_way(mapping: Mapping) -> None:
    space = IovaSpace()
    space.map(mapping)
    assert number_of(space.limit, LIMITS) == errno.EADDRINUSE
    assert space.limits == Limits()
    space.unmap(mapping.iova, mapping.length)
    space.limit(LIMITS)


@pytest.mark.parametrize(
    ("mapping", "number"),
    [
        (Mapping(0, 0, 0), errno.EINVAL),
        (Mapping(1, PAGE, 0), errno.EINVAL),
        (Mapping(0, PAGE + 1, 0), errno.EINVAL),
        (Mapping(0, PAGE, 1), errno.EINVAL),
        (Mapping(LAST + 1 - PAGE, 2 * PAGE, 0), errno.EOVERFLOW),
    ],
)
def test_mappings_that_are_refused(mapping: Mapping, number: int) -> None:
    space = IovaSpace()
    space.limit(Limits(PAGE))
    assert number_of(space.map, mapping) == number
    assert space.all() == []


def test_unmapping_nothing_or_past_the_end_is_refused() -> None:
    space = IovaSpace()
    assert number_of(space.unmap, 0, 0) == errno.EINVAL
    assert number_of(space.unmap, PAGE, LAST) == errno.EOVERFLOW
