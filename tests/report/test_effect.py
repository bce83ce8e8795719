"""Whether a figure has changed: what is called so, how often wrongly, and what is found."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.report import effect
from qmptests.report.effect import Verdict, compare

figures = st.floats(-1e6, 1e6, allow_nan=False)
repeats = st.lists(figures, min_size=1, max_size=12)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3), (4, 4), (5, 2)])
def test_the_statistic_is_counted_as_by_hand(first: int, second: int) -> None:
    by_hand = [0] * (first * second + 1)
    for places in itertools.combinations(range(first + second), first):
        by_hand[sum(place - n for n, place in enumerate(places))] += 1
    assert effect._ways(first, second) == by_hand


def test_an_interval_is_the_one_of_the_tables() -> None:
    """With 10 and 10 repeats the bounds are the 24th differences from the ends."""
    assert effect._of_two(10, 10).rank(0.05) == 24
    assert effect._of_two(5, 5).rank(0.05) == 3
    assert effect._of_two(3, 3).rank(0.05) == 0
    assert effect.least_repeats() == 4


def test_many_repeats_have_the_normal_approximation() -> None:
    exact, near = effect._of_two(50, 50).rank(0.05), effect._of_two(50, 51).rank(0.05)
    assert 0 < near - exact < 50


@given(repeats, repeats, figures)
def test_a_shift_of_all_of_b_shifts_the_effect(
    before: list[float], after: list[float], by: float
) -> None:
    one, other = compare(before, after), compare(before, [figure + by for figure in after])
    assert other.shift == pytest.approx(one.shift + by, abs=1e-6)
    if one.low is not None:
        assert one.high is not None
        assert one.low <= one.shift <= one.high


@given(repeats, repeats)
def test_turned_round_it_is_the_opposite(before: list[float], after: list[float]) -> None:
    one, other = compare(before, after), compare(after, before)
    assert other.shift == pytest.approx(-one.shift)
    assert (one.low is None) is (other.low is None)
    if one.low is not None:
        assert other.high == pytest.approx(-one.low)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_signed_ranks_are_counted_as_by_hand(count: int) -> None:
    by_hand = [0] * (count * (count + 1) // 2 + 1)
    for signs in itertools.product((0, 1), repeat=count):
        by_hand[sum(n for n, sign in enumerate(signs, 1) if sign)] += 1
    assert effect._signed_ways(count) == by_hand


def test_signed_ranks_are_those_of_the_tables() -> None:
    """The critical values of T at 5 %, two-sided: 0 of 6 pairs, 8 of 10, 52 of 20; each plus one.

    Source: Hollander, Wolfe and Chicken, table A.4.
    """
    assert [effect._of_pairs(n).rank(0.05) for n in (5, 6, 10, 20)] == [0, 1, 9, 53]
    near, exact = (effect._of_pairs(n).rank(0.05) for n in (51, 50))
    assert 0 < near - exact < 40


def test_the_chance_is_that_of_the_interval() -> None:
    """It is 5 % or less exactly where the interval leaves out 0."""
    source = random.Random(4)
    for _ in range(300):
        before = [source.gauss(100, 5) for _ in range(source.randint(4, 9))]
        after = [source.gauss(106, 5) for _ in range(source.randint(4, 9))]
        pairs = [source.gauss(104, 5) for _ in range(len(before))]
        found = [compare(before, after)]
        if len(before) >= 6:
            found.append(effect.paired(before, pairs))
        for one in found:
            assert one.low is not None
            assert one.high is not None
            assert (one.chance <= 0.05) is not (one.low <= 0 <= one.high)


def test_pairs_tell_what_two_sets_can_not() -> None:
    """Cells are far apart, each has one repeat, and all have become slower by a tenth."""
    source = random.Random(6)
    before = [10.0 * 2**n * source.gauss(1, 0.02) for n in range(10)]
    after = [figure * 1.1 * source.gauss(1, 0.02) for figure in before]
    assert compare(before, after).verdict is Verdict.UNKNOWN
    found = effect.paired(before, after)
    assert found.verdict is Verdict.CHANGED
    assert 0.07 < found.part < 0.13
    assert effect.paired(before[:5], after[:5]).needed == 6


def test_what_is_no_pair_is_refused() -> None:
    for before, after in (([], []), ([1.0], [0.0]), ([-1.0], [1.0])):
        with pytest.raises(ValueError, match="above 0"):
            effect.paired(before, after)


@given(st.lists(figures, min_size=1, max_size=3), st.lists(figures, min_size=1, max_size=3))
def test_too_few_repeats_say_nothing(before: list[float], after: list[float]) -> None:
    found = compare(before, after)
    assert (found.verdict, found.needed) == (Verdict.UNKNOWN, 4)


def downtime(source: random.Random) -> float:
    """A floor, some noise, and now and then a late one: as downtimes are."""
    return 300 + source.expovariate(1 / 4) + (40 if source.random() < 0.1 else 0)


def test_the_same_twice_is_rarely_called_changed() -> None:
    source = random.Random(1)
    found = [
        compare([downtime(source) for _ in range(10)], [downtime(source) for _ in range(10)])
        for _ in range(1000)
    ]
    assert sum(one.verdict is Verdict.CHANGED for one in found) <= 50
    # The floor is not all that keeps them: the intervals by themselves are right.
    assert sum(not (one.low or 0) <= 0 <= (one.high or 0) for one in found) <= 65


def test_a_slowdown_of_a_tenth_is_found_with_ten_repeats() -> None:
    source = random.Random(2)
    found = [
        compare([downtime(source) for _ in range(10)], [1.1 * downtime(source) for _ in range(10)])
        for _ in range(200)
    ]
    assert sum(one.verdict is Verdict.CHANGED for one in found) >= 180
    assert sum(0.07 < one.part < 0.13 for one in found) >= 180


def test_what_is_not_told_says_how_many_repeats_would() -> None:
    source = random.Random(3)
    noisy = [[source.gauss(100, 15) for _ in range(400)] for _ in range(2)]
    few = compare(noisy[0][:6], [figure * 1.1 for figure in noisy[1][:6]])
    assert few.verdict is Verdict.UNKNOWN
    assert few.needed > 6
    many = compare(noisy[0], [figure * 1.1 for figure in noisy[1]])
    assert many.verdict is Verdict.CHANGED


def test_equal_figures_have_not_changed() -> None:
    found = compare([5.0] * 5, [5.0] * 5)
    assert (found.verdict, found.shift, found.noise) == (Verdict.SAME, 0, 0)
    assert math.isclose(found.part, 0)


def test_without_repeats_there_is_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        compare([], [1.0])
