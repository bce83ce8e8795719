"""Whether a figure has changed between two sets of repeats, by ranks alone: pure.

Downtimes are not normally distributed: they have a floor, and outliers above it. So nothing here
takes a mean. The effect is the median of all differences between a repeat of B and one of A
(Hodges and Lehmann 1963); its confidence interval is the test of Mann, Whitney and Wilcoxon turned
round: the shifts that the test does not reject (Hollander, Wolfe and Chicken: Nonparametric
Statistical Methods, 3rd ed., 4.3). The distribution of the test's statistic is counted out, not
approximated.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from itertools import accumulate
from statistics import NormalDist, median

import msgspec

#: How often a figure that has not changed may be called changed.
ALPHA = 0.05
#: A change of less than this part is none that anyone cares for.
FLOOR = 0.05
#: Beyond this product of counts the statistic's distribution is as good as normal.
EXACT = 2500


class Verdict(StrEnum):
    """What can be said with this many repeats."""

    CHANGED = "changed"
    SAME = "not changed"
    UNKNOWN = "can't tell"


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """B held against A. `before`, `after`: medians. Shifts have the figure's unit.

    `low` to `high`: the confidence interval, None if there are too few repeats for one. `noise`: by
    how much A's own repeats are apart, half of their interquartile range, as a part of the median.
    `needed`: repeats of each side that would tell, about; 0 where it can be told.
    """

    before: float
    after: float
    shift: float
    low: float | None
    high: float | None
    noise: float
    verdict: Verdict
    needed: int = 0

    @property
    def part(self) -> float:
        """The shift as a part of A's median; 0 if that is 0."""
        return self.shift / self.before if self.before else 0.0


def compare(
    before: Sequence[float],
    after: Sequence[float],
    *,
    floor: float = FLOOR,
    least: float = 0.0,
    alpha: float = ALPHA,
) -> Effect:
    """Hold `after` against `before`, at least one repeat of each.

    It has changed if the interval leaves out 0 and the shift is at least `floor` of the median of
    `before`, and `least`; it has not if the whole interval is within that. Raises ValueError if a
    side has no repeats.
    """
    if not before or not after:
        raise ValueError("nothing to compare: a side has no repeats")
    differences = sorted(b - a for a in before for b in after)
    middle, shift = median(before), median(differences)
    allowed = max(floor * abs(middle), least)
    low, high = _interval(differences, len(before), len(after), alpha)
    verdict, needed = Verdict.UNKNOWN, 0
    if low is None or high is None:
        needed = least_repeats(alpha)
    elif (low > 0 or high < 0) and abs(shift) >= allowed:
        verdict = Verdict.CHANGED
    elif -allowed <= low and high <= allowed:
        verdict = Verdict.SAME
    else:
        needed = _needed(low, high, shift, allowed, min(len(before), len(after)))
    return Effect(
        before=middle,
        after=median(after),
        shift=shift,
        low=low,
        high=high,
        noise=_noise(sorted(before), middle),
        verdict=verdict,
        needed=needed,
    )


@cache
def least_repeats(alpha: float = ALPHA) -> int:
    """The fewest repeats of each side with which anything can be called changed."""
    count = 1
    while 2 / math.comb(2 * count, count) > alpha:
        count += 1
    return count


def _interval(
    differences: Sequence[float], first: int, second: int, alpha: float
) -> tuple[float | None, float | None]:
    """From which to which of the differences the test does not reject."""
    rank = _rank(first, second, alpha)
    if rank == 0:
        return None, None
    return differences[rank - 1], differences[-rank]


@cache
def _rank(first: int, second: int, alpha: float) -> int:
    """The greatest rank k with P(U < k) <= alpha / 2; 0 if there is none."""
    if first * second > EXACT:
        spread = math.sqrt(first * second * (first + second + 1) / 12)
        return max(0, math.floor(first * second / 2 - NormalDist().inv_cdf(1 - alpha / 2) * spread))
    ways = _ways(first, second)
    most = alpha / 2 * sum(ways)
    return sum(total <= most for total in accumulate(ways))


def _ways(first: int, second: int) -> list[int]:
    """In how many orders of all repeats so many pairs have B before A, from 0 pairs on.

    These are the coefficients of the Gaussian binomial coefficient (first + second over first).
    """
    ways = [1] + [0] * (first * second)
    for size in range(second + 1, first + second + 1):
        for n in range(len(ways) - 1, size - 1, -1):
            ways[n] -= ways[n - size]
    for size in range(1, first + 1):
        for n in range(size, len(ways)):
            ways[n] += ways[n - size]
    return ways


def _needed(low: float, high: float, shift: float, allowed: float, count: int) -> int:
    """The interval's width falls with the root of the repeats: until it is decided on one side.

    A shift that is nearly `allowed` is taken to be half of that off: no one needs it closer.
    """
    room = max(abs(abs(shift) - allowed), allowed / 2)
    if not room:
        return count + 1
    half = (high - low) / 2
    return max(count + 1, math.ceil(count * min(half / room, 1e3) ** 2))


def _noise(ordered: Sequence[float], middle: float) -> float:
    if len(ordered) < 2 or not middle:
        return 0.0
    half = len(ordered) // 2
    return (median(ordered[-half:]) - median(ordered[:half])) / 2 / abs(middle)
