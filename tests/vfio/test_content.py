"""The bytes of a data stream follow from their positions, and whatever is wrong is noticed."""

import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.calls import Kind, Span
from qmptests.vfio.content import DAMAGE, MAGIC, PAGE, Checker, Content, Verdict
from qmptests.vfio.script import DAMAGE as DAMAGE_OF_SCRIPTS

CONTENT = Content(7, "vf0")
#: Longer than what the code copies at a time.
PIECES = (
    Span(0, 5 * PAGE, Kind.INITIAL, 0),
    Span(5 * PAGE, 40 * PAGE, Kind.DIRTY, 0),
    Span(45 * PAGE, 30 * PAGE, Kind.INITIAL, 1),
    Span(75 * PAGE, 2 * PAGE, Kind.DIRTY, 1),
    Span(77 * PAGE, 3 * PAGE, Kind.STOP_COPY, 1),
    Span(80 * PAGE, PAGE, Kind.END, 1),
)
CHUNKS = [(kind, generation, length) for _, length, kind, generation in PIECES]
LENGTH = 81 * PAGE


def made(spans: tuple[Span, ...], content: Content = CONTENT) -> bytearray:
    buffer = bytearray(sum(span.length for span in spans))
    assert content.fill(buffer, spans) == len(buffer)
    return buffer


STREAM = bytes(made(PIECES))


def checked(data: bytes | bytearray, cuts: Iterable[int] = ()) -> Verdict:
    checker = Checker(CONTENT)
    for start, end in pairwise(sorted({0, *cuts, len(data)})):
        checker.feed(memoryview(data)[start:end])
    return checker.finish()


def pages(data: bytes) -> list[bytes]:
    return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]


def cut(at: set[int]) -> tuple[Span, ...]:
    """The pieces, read in more reads than they are."""
    edges = sorted(at | {span.start for span in PIECES} | {LENGTH})
    return tuple(
        piece._replace(start=start, length=end - start)
        for start, end in pairwise(edges)
        for piece in PIECES
        if piece.start <= start < piece.start + piece.length
    )


positions = st.integers(0, LENGTH - 1)
numbers = st.integers(0, LENGTH // PAGE - 1)


def test_a_right_stream_has_no_problem() -> None:
    assert checked(STREAM) == Verdict("", CHUNKS)


@given(st.sets(positions))
def test_a_stream_is_the_same_however_it_is_cut_into_reads(at: set[int]) -> None:
    assert made(cut(at)) == STREAM


@given(st.sets(positions, max_size=9))
def test_a_stream_is_checked_in_pieces_of_any_size(at: set[int]) -> None:
    assert checked(STREAM, at) == Verdict("", CHUNKS)


@given(st.integers(0, 1 << 40), st.integers(0, 3 * PAGE))
def test_a_read_far_inside_a_long_stream_is_that_of_its_pages(start: int, length: int) -> None:
    first, end = start // PAGE, start + length
    whole = b"".join(CONTENT.page(n, Kind.DIRTY, 2) for n in range(first, end // PAGE + 1))
    expected = whole[start % PAGE :][:length]
    assert made((Span(start, length, Kind.DIRTY, 2),)) == expected


@pytest.mark.parametrize("piece", PIECES)
def test_each_page_says_what_it_is(piece: Span) -> None:
    once = piece.kind | piece.generation << 3
    for number in range(piece.start // PAGE, (piece.start + piece.length) // PAGE):
        magic, device, position, kind, total = struct.unpack_from("<5Q", STREAM, number * PAGE)
        assert (magic, device, position) == (MAGIC, CONTENT.identity, number)
        assert kind == once | once << 21 | once << 42
        assert (total == LENGTH) == (piece.kind is Kind.END)


@pytest.mark.parametrize("other", [Content(8, "vf0"), Content(7, "vf1"), Content(71, "vf")])
def test_streams_of_other_seeds_and_devices_differ_in_every_page(other: Content) -> None:
    for ours, theirs in zip(pages(STREAM), pages(bytes(made(PIECES, other))), strict=True):
        assert ours[8:16] != theirs[8:16]
        same = sum(a == b for a, b in zip(ours[40:], theirs[40:], strict=True))
        assert same < PAGE // 64  # of random bytes one in 256


def test_pages_near_each_other_have_different_bodies() -> None:
    span = Span(0, 16 << 20, Kind.DIRTY, 0)
    bodies = {page[32:] for page in pages(bytes(made((span,))))}
    assert len(bodies) == span.length // PAGE


def test_equal_seeds_and_names_give_equal_streams_on_any_machine() -> None:
    assert Content(7, "vf0").page(17, Kind.DIRTY, 1) == CONTENT.page(17, Kind.DIRTY, 1)
    assert CONTENT.page(17, Kind.DIRTY, 1)[:40].hex() == (
        "716d707465737473084501ebec656f3c11000000000000000a0040010028000038e28706a017994b"
    )


@given(positions, st.integers(0, 7))
def test_any_flipped_bit_is_found(position: int, bit: int) -> None:
    flip(position, bit)


@pytest.mark.parametrize("piece", PIECES)
def test_any_flipped_bit_of_a_header_is_found(piece: Span) -> None:
    for position in range(piece.start, piece.start + 40):
        for bit in range(8):
            flip(position, bit)


def flip(position: int, bit: int) -> None:
    """A stream in which this one is flipped is wrong, and we are told where."""
    wrong = bytearray(STREAM)
    wrong[position] ^= 1 << bit
    found = checked(wrong).problem
    assert f"page {position // PAGE} " in found
    expected = f"byte {position} is {wrong[position]:#04x} instead of {STREAM[position]:#04x}"
    assert found.endswith(f"has one bit flipped: {expected}")


@given(numbers, st.integers(0, PAGE - 8), st.binary(min_size=8, max_size=8))
def test_any_overwritten_word_is_found_in_its_page(number: int, at: int, word: bytes) -> None:
    at += number * PAGE
    wrong = bytearray(STREAM)
    wrong[at : at + 8] = word
    found = checked(wrong).problem
    assert (f"page {number} " in found) == (wrong != STREAM)


@given(numbers)
def test_a_missing_page_is_found(number: int) -> None:
    every = pages(STREAM)
    found = checked(b"".join(every[:number] + every[number + 1 :])).problem
    if number == len(every) - 1:
        expected = f"the stream ends after {LENGTH - PAGE} bytes, without its END page"
    else:
        expected = f"holds what belongs at page {number + 1}: swapped, doubled or shifted"
    assert found.endswith(expected)


@given(numbers)
def test_a_doubled_page_is_found(number: int) -> None:
    every = pages(STREAM)
    found = checked(b"".join(every[: number + 1] + every[number:])).problem
    if number == len(every) - 1:
        expected = f"more bytes come after the END page, from byte {LENGTH} on"
    else:
        expected = f"holds what belongs at page {number}: swapped, doubled or shifted"
        assert found.startswith(f"page {number + 1} ")
    assert found.endswith(expected)


@given(numbers, numbers)
def test_swapped_pages_are_found(one: int, other: int) -> None:
    every = pages(STREAM)
    every[one], every[other] = every[other], every[one]
    found = checked(b"".join(every)).problem
    low, high = sorted((one, other))
    if one == other:
        assert found == ""
    else:
        assert found.startswith(f"page {low} (from byte {low * PAGE} on) holds what belongs at")
        assert f" page {high}: swapped" in found


@given(positions)
def test_a_truncated_stream_is_found(length: int) -> None:
    inside = ", in the middle of a page" if length % PAGE else ""
    problem = f"the stream ends after {length} bytes{inside}, without its END page"
    assert checked(STREAM[:length]).problem == problem
    assert CONTENT.plausible(STREAM[:length][-PAGE:], length).startswith("the stream ends after")


@given(st.binary(min_size=1, max_size=2 * PAGE))
def test_bytes_after_the_end_are_found(more: bytes) -> None:
    found = checked(STREAM + more)
    assert found == Verdict(f"more bytes come after the END page, from byte {LENGTH} on", CHUNKS)


@pytest.mark.parametrize("other", [Content(8, "vf0"), Content(7, "vf1")])
def test_a_page_of_another_device_is_found(other: Content) -> None:
    wrong = bytearray(STREAM)
    wrong[3 * PAGE : 4 * PAGE] = other.page(3, Kind.INITIAL, 0)
    words = "page 3 (from byte 12288 on) is a page of another device, or of another seed"
    assert checked(wrong) == Verdict(words, [])


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([(Kind.STOP_COPY, 0), (Kind.INITIAL, 0)], "INITIAL of generation 0"),
        ([(Kind.STOP_COPY, 0), (Kind.DIRTY, 1)], "DIRTY of generation 1"),
        ([(Kind.DIRTY, 1), (Kind.DIRTY, 0)], "DIRTY of generation 0"),
        ([(Kind.INITIAL, 1), (Kind.END, 0)], "END of generation 0"),
    ],
)
def test_pieces_in_an_impossible_order_are_found(kinds: list[tuple[Kind, int]], words: str) -> None:
    spans = [Span(n * PAGE, PAGE, *each) for n, each in enumerate(kinds)]
    before = f"{kinds[0][0].name} of generation {kinds[0][1]}"
    expected = f"page 1 (from byte 4096 on) is {words}, which can't follow {before}"
    assert checked(made(tuple(spans))) == Verdict(expected, [(*kinds[0], PAGE)])


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("generation", [1, 2])
def test_a_generation_can_begin_with_any_kind(kind: Kind, generation: int) -> None:
    spans = [Span(0, PAGE, Kind.DIRTY, 0), Span(PAGE, PAGE, kind, generation)]
    if kind is not Kind.END:
        spans.append(Span(2 * PAGE, PAGE, Kind.END, generation))
    assert checked(made(tuple(spans))).problem == ""


@given(st.sampled_from(PIECES[:-1]), st.data(), st.sampled_from(DAMAGE))
def test_damage_to_any_read_stays_inside_it_and_is_found(
    piece: Span, data: st.DataObject, how: str
) -> None:
    start = data.draw(st.integers(piece.start, piece.start + piece.length - 1))
    end = data.draw(st.integers(start + 1, piece.start + piece.length))
    wrong = bytearray(STREAM)
    read = wrong[start:end]
    CONTENT.damage(read, piece._replace(start=start, length=end - start), how)
    assert len(read) == end - start
    wrong[start:end] = read
    assert checked(wrong).problem


@pytest.mark.parametrize("before", [0, 100])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("flip", "page 7 (from byte 28672 on) has one bit flipped: byte "),
        ("drop", "page 6 (from byte 24576 on) holds what belongs at page 7: "),
        ("double", "page 7 (from byte 28672 on) holds what belongs at page 6: "),
        ("swap", "page 6 (from byte 24576 on) holds what belongs at page 7: "),
        ("magic", "page 6 (from byte 24576 on) has a wrong magic number: "),
        ("foreign", "page 6 (from byte 24576 on) is a page of another device"),
    ],
)
def test_damage_is_told_apart_wherever_the_read_begins(how: str, words: str, before: int) -> None:
    wrong = bytearray(STREAM)
    start, end = 6 * PAGE - before, 9 * PAGE
    CONTENT.damage(memoryview(wrong)[start:end], Span(start, end - start, Kind.DIRTY, 0), how)
    assert checked(wrong).problem.startswith(words)


@pytest.mark.parametrize("how", ["drop", "double", "swap"])
def test_of_a_single_page_the_next_is_read_instead(how: str) -> None:
    page = CONTENT.page(5, Kind.DIRTY, 0)
    CONTENT.damage(page, Span(5 * PAGE, PAGE, Kind.DIRTY, 0), how)
    assert page == CONTENT.page(6, Kind.DIRTY, 0)


def test_after_a_dropped_page_the_last_one_of_the_read_comes_early() -> None:
    span = Span(5 * PAGE, 3 * PAGE, Kind.DIRTY, 0)
    wrong = made((span,))
    CONTENT.damage(wrong, span, "drop")
    assert wrong == made((span._replace(start=6 * PAGE),))


def test_all_that_a_script_can_do_to_data_is_known() -> None:
    assert set(DAMAGE) >= DAMAGE_OF_SCRIPTS
    with pytest.raises(ValueError, match="can't be damaged by 'burn': flip, drop,"):
        CONTENT.damage(bytearray(PAGE), PIECES[0], "burn")


def test_a_cheap_look_finds_a_right_end() -> None:
    assert CONTENT.plausible(STREAM[-PAGE:], LENGTH) == ""


def test_a_cheap_look_finds_an_end_at_the_wrong_place() -> None:
    found = CONTENT.plausible(STREAM[-PAGE:], LENGTH - PAGE)
    assert found.endswith("holds what belongs at page 80: swapped, doubled or shifted")


def test_a_cheap_look_finds_a_flipped_bit_in_the_end() -> None:
    wrong = bytearray(STREAM[-PAGE:])
    wrong[24] ^= 1
    assert "one bit flipped" in CONTENT.plausible(bytes(wrong), LENGTH)


def test_a_page_that_says_it_is_any_other_is_found() -> None:
    wrong = bytearray(STREAM[-PAGE:])
    wrong[16:24] = b"\xff" * 8
    found = CONTENT.plausible(bytes(wrong), LENGTH)
    assert found == f"page 80 (from byte 327680 on) says that it is page {2**64 - 1}"
    wrong[16:24] = (3).to_bytes(8, "little")
    assert CONTENT.plausible(bytes(wrong), LENGTH).endswith("says that it is page 3")


def test_a_page_without_a_known_kind_is_found() -> None:
    wrong = bytearray(STREAM[-PAGE:])
    wrong[24:32] = bytes(8)
    found = CONTENT.plausible(bytes(wrong), LENGTH)
    assert found.endswith("has a kind that there is not: 0x0000000000000000")


def test_a_page_that_was_never_written_is_found() -> None:
    wrong = STREAM[: 3 * PAGE] + bytes(PAGE) + STREAM[4 * PAGE :]
    assert checked(wrong).problem.startswith("page 3 (from byte 12288 on) has a wrong magic number")
