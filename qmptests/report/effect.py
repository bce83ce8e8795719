"""Whether a figure has changed between two sets of repeats, or of cells, by ranks alone: pure.

Downtimes are not normally distributed: they have a floor, and outliers above it. So nothing here
takes a mean. The effect is the median of all differences between a repeat of B and one of A
(Hodges and Lehmann 1963); its confidence interval is the test of Mann, Whitney and Wilcoxon turned
round: the shifts that the test does not reject (Hollander, Wolfe and Chicken: Nonparametric
Statistical Methods, 3rd ed., 4.3). Many cells of one repeat each are paired: the same with the
averages of all pairs of cells' changes, and Wilcoxon's signed ranks (3.1 to 3.3). The
distributions of both statistics are counted out, not approximated, until they are as good as
normal.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from itertools import accumulate
from statistics import NormalDist, median
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

#: How often a figure that has not changed may be called changed.
ALPHA = 0.05
#: A change of less than this part is none that anyone cares for.
FLOOR = 0.05
#: Beyond this product of counts the statistic's distribution is as good as normal; the same of
#: pairs beyond their number.
EXACT, EXACT_PAIRS = 2500, 50


class Verdict(StrEnum):
    """What can be said with this many repeats."""

    CHANGED = "changed"
    SAME = "not changed"
    UNKNOWN = "can't tell"


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """B held against A. `before`, `after`: medians. Shifts have the figure's unit.

    `low` to `high`: the confidence interval, None if there are too few repeats for one. `noise`: by
    how much A's own repeats are apart, half of their interquartile range, as a part of the median.
    `chance`: how often as much or more is seen where nothing has changed (the p-value). `needed`:
    repeats of each side that would tell, about; 0 where it can be told. Of pairs, `noise` is that
    of their changes, and `needed` counts pairs.
    """

    before: float
    after: float
    noise: float
    shift: float = 0.0
    low: float | None = None
    high: float | None = None
    verdict: Verdict = Verdict.UNKNOWN
    chance: float = 1.0
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
    middle = median(before)
    return _judged(
        sorted(b - a for a in before for b in after),
        _of_two(len(before), len(after)),
        Effect(
            before=middle,
            after=median(after),
            noise=_noise(sorted(before), middle),
        ),
        alpha,
        allowed=max(floor * abs(middle), least),
        count=min(len(before), len(after)),
        fewest=least_repeats(alpha),
    )


def paired(
    before: Sequence[float],
    after: Sequence[float],
    *,
    floor: float = FLOOR,
    least: float = 0.0,
    alpha: float = ALPHA,
) -> Effect:
    """The same of figures above 0 that belong together: each of `after` to its own of `before`.

    Their changes are taken as factors, so cells with small figures count as much as others. Raises
    ValueError for no pairs, for figures of 0 and below, and if one side has more than the other.
    """
    if not before or min(*before, *after) <= 0:
        raise ValueError("pairs of figures above 0 are compared")
    factors = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    averages = sorted((one + other) / 2 for n, one in enumerate(factors) for other in factors[n:])
    middle = median(before)
    return _judged(
        averages,
        _of_pairs(len(factors)),
        Effect(
            before=middle,
            after=median(after),
            noise=_noise(sorted(math.exp(factor) for factor in factors), 1.0),
        ),
        alpha,
        allowed=max(floor * middle, least),
        count=len(factors),
        fewest=_least_pairs(alpha),
        to_shift=lambda factor: middle * math.expm1(factor),
    )


def _judged(
    estimates: Sequence[float],
    null: "_Null",
    sides: Effect,
    alpha: float,
    *,
    allowed: float,
    count: int,
    fewest: int,
    to_shift: Callable[[float], float] = lambda estimate: estimate,
) -> Effect:
    """`estimates`: all of them, in order; `sides`: what is known without them."""
    rank = null.rank(alpha)
    shift = to_shift(median(estimates))
    found = replace(sides, shift=shift, chance=null.chance(estimates), needed=fewest)
    if not rank:
        return found
    low, high = to_shift(estimates[rank - 1]), to_shift(estimates[-rank])
    found = replace(found, low=low, high=high, needed=0)
    if (low > 0 or high < 0) and abs(shift) >= allowed:
        return replace(found, verdict=Verdict.CHANGED)
    if -allowed <= low and high <= allowed:
        return replace(found, verdict=Verdict.SAME)
    return replace(found, needed=_needed(low, high, shift, allowed, count))


@cache
def least_repeats(alpha: float = ALPHA) -> int:
    """The fewest repeats of each side with which anything can be called changed."""
    count = 1
    while 2 / math.comb(2 * count, count) > alpha:
        count += 1
    return count


class _Null(NamedTuple):
    """How a statistic is distributed where nothing has changed: so many estimates lie below 0.

    `below`: in how many of all ways it is at most so much, from 0 on; empty where it is as good as
    normal, with the deviation `spread`.
    """

    size: int
    spread: float
    below: Sequence[int]

    def rank(self, alpha: float) -> int:
        """The greatest rank k with P(statistic < k) <= alpha / 2; 0 if there is none."""
        if not self.below:
            margin = NormalDist().inv_cdf(1 - alpha / 2) * self.spread
            return max(0, math.floor(self.size / 2 - margin))
        return bisect_right(self.below, alpha / 2 * self.below[-1])

    def chance(self, estimates: Sequence[float]) -> float:
        """How often it is as far from its middle or farther; ties count half, to its side."""
        below = sum(one < 0 for one in estimates) + sum(one == 0 for one in estimates) / 2
        extreme = math.ceil(min(below, self.size - below))
        if not self.below:
            z = (extreme + 0.5 - self.size / 2) / self.spread
            return min(1.0, 2 * NormalDist().cdf(z))
        return min(1.0, 2 * self.below[extreme] / self.below[-1])


@cache
def _of_two(first: int, second: int) -> _Null:
    """Mann and Whitney's."""
    size = first * second
    below = tuple(accumulate(_ways(first, second))) if size <= EXACT else ()
    return _Null(size, math.sqrt(size * (first + second + 1) / 12), below)


@cache
def _of_pairs(count: int) -> _Null:
    """Wilcoxon's."""
    size = count * (count + 1) // 2
    below = tuple(accumulate(_signed_ways(count))) if count <= EXACT_PAIRS else ()
    return _Null(size, math.sqrt(size * (2 * count + 1) / 12), below)


def _signed_ways(count: int) -> list[int]:
    """How many sets of the numbers 1 to `count` have this sum, from 0 on."""
    ways = [1] + [0] * (count * (count + 1) // 2)
    for number in range(1, count + 1):
        for n in range(len(ways) - 1, number - 1, -1):
            ways[n] += ways[n - number]
    return ways


def _least_pairs(alpha: float) -> int:
    return next(count for count in range(1, 99) if 2 / 2**count <= alpha)


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
