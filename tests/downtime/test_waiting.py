"""Reasons in order of time become intervals that cover the time, each instant once."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qmptests.downtime.precopy_data import LIMIT, Interval, Left, Sizes, Why
from qmptests.downtime.waiting import Waiting

NOTHING = Left(None, {})
turns = st.lists(
    st.tuples(
        st.integers(-20, 120), st.sampled_from(Why), st.sampled_from([(), ("vf0",), ("vf1",)])
    )
)


def waited(
    turned: list[tuple[int, Why, tuple[str, ...]]], end: int, begin: int = 0
) -> list[Interval]:
    waiting = Waiting(begin, NOTHING)
    for at, why, devices in turned:
        waiting.turn(at, why, devices, NOTHING, None)
    return waiting.end(end)


@given(turns, st.integers(1, 150))
def test_intervals_cover_the_time_without_gap_or_overlap(
    turned: list[tuple[int, Why, tuple[str, ...]]], end: int
) -> None:
    intervals = waited(turned, end)
    assert intervals[0].begin_us == 0
    assert intervals[-1].end_us == end
    assert all(one.end_us == two.begin_us for one, two in pairwise(intervals))
    assert all(interval.us > 0 for interval in intervals)
    assert all((a.why, a.devices) != (b.why, b.devices) for a, b in pairwise(intervals))


@given(turns)
def test_each_instant_has_the_reason_that_was_given_last(
    turned: list[tuple[int, Why, tuple[str, ...]]],
) -> None:
    turned.sort(key=lambda turn: turn[0])
    for interval in waited(turned, 121):
        before = [turn for turn in turned if turn[0] <= interval.begin_us]
        last = before[-1] if before else (0, Why.SETUP, ())
        assert (interval.why, interval.devices) == last[1:]


def test_no_time_has_no_intervals() -> None:
    assert waited([], 0) == []


def test_very_many_are_put_together_and_still_cover_the_time() -> None:
    waiting = Waiting(0, NOTHING)
    count = 5 * LIMIT
    for number in range(count):
        left = Left(number, {"vf0": Sizes(number)})
        waiting.turn(number, (Why.ACK, Why.BYTES)[number % 2], (), left, 7)
    intervals = waiting.end(count)
    assert waiting.merged
    assert len(intervals) <= LIMIT
    assert (intervals[0].begin_us, intervals[-1].end_us) == (0, count)
    assert all(one.end_us == two.begin_us for one, two in pairwise(intervals))
    assert intervals[-1].last.ram == count - 1


def test_an_interval_tells_what_was_left_at_its_begin_and_its_end() -> None:
    waiting = Waiting(0, NOTHING)
    for at, ram in ((5, 40), (6, 30), (9, 12)):
        waiting.turn(at, Why.BYTES, (), Left(ram, {}), 8)
    _, interval = waiting.end(20)
    assert (interval.begin_us, interval.end_us, interval.fits) == (5, 20, 8)
    assert (interval.first.total, interval.last.total) == (40, 12)
