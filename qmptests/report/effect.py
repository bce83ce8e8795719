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
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from itertools import accumulate
from statistics import NormalDist, median

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
    shift: float
    low: float | None
    high: float | None
    noise: float
    verdict: Verdict
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
    differences = sorted(b - a for a in before for b in after)
    rank = _rank(len(before), len(after), alpha)
    middle = median(before)
    return _judged(
        Effect(
            before=middle,
            after=median(after),
            shift=median(differences),
            low=differences[rank - 1] if rank else None,
            high=differences[-rank] if rank else None,
            noise=_noise(sorted(before), middle),
            verdict=Verdict.UNKNOWN,
            chance=_chance(differences, len(before), len(after)),
        ),
        max(floor * abs(middle), least),
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
    rank = _signed_rank(len(factors), alpha)
    middle = median(before)

    def shift(factor: float) -> float:
        return middle * math.expm1(factor)

    return _judged(
        Effect(
            before=middle,
            after=median(after),
            shift=shift(median(averages)),
            low=shift(averages[rank - 1]) if rank else None,
            high=shift(averages[-rank]) if rank else None,
            noise=_noise(sorted(math.exp(factor) for factor in factors), 1.0),
            verdict=Verdict.UNKNOWN,
            chance=_signed_chance(averages, len(factors)),
        ),
        max(floor * middle, least),
        count=len(factors),
        fewest=_least_pairs(alpha),
    )


def _judged(found: Effect, allowed: float, *, count: int, fewest: int) -> Effect:
    low, high, shift = found.low, found.high, found.shift
    if low is None or high is None:
        return replace(found, needed=fewest)
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


@cache
def _rank(first: int, second: int, alpha: float) -> int:
    """The greatest rank k with P(U < k) <= alpha / 2; 0 if there is none."""
    if first * second > EXACT:
        spread = math.sqrt(first * second * (first + second + 1) / 12)
        return max(0, math.floor(first * second / 2 - NormalDist().inv_cdf(1 - alpha / 2) * spread))
    ways = _ways(first, second)
    most = alpha / 2 * sum(ways)
    return sum(total <= most for total in accumulate(ways))


def _chance(differences: Sequence[float], first: int, second: int) -> float:
    """How often U is at least as far from its middle; ties count half, to the middle's side."""
    below = sum(d < 0 for d in differences) + sum(d == 0 for d in differences) / 2
    extreme = math.ceil(min(below, first * second - below))
    if first * second > EXACT:
        spread = math.sqrt(first * second * (first + second + 1) / 12)
        return min(1.0, 2 * NormalDist().cdf((extreme + 0.5 - first * second / 2) / spread))
    ways = _ways(first, second)
    return min(1.0, 2 * sum(ways[: extreme + 1]) / sum(ways))


@cache
def _signed_rank(count: int, alpha: float) -> int:
    """The greatest rank k with P(T < k) <= alpha / 2; 0 if there is none."""
    if count > EXACT_PAIRS:
        middle, spread = _signed_normal(count)
        return max(0, math.floor(middle - NormalDist().inv_cdf(1 - alpha / 2) * spread))
    ways = _signed_ways(count)
    most = alpha / 2 * sum(ways)
    return sum(total <= most for total in accumulate(ways))


def _signed_chance(averages: Sequence[float], count: int) -> float:
    below = sum(one < 0 for one in averages) + sum(one == 0 for one in averages) / 2
    extreme = math.ceil(min(below, len(averages) - below))
    if count > EXACT_PAIRS:
        middle, spread = _signed_normal(count)
        return min(1.0, 2 * NormalDist().cdf((extreme + 0.5 - middle) / spread))
    ways = _signed_ways(count)
    return min(1.0, 2 * sum(ways[: extreme + 1]) / sum(ways))


def _signed_normal(count: int) -> tuple[float, float]:
    """Mean and deviation of T."""
    return count * (count + 1) / 4, math.sqrt(count * (count + 1) * (2 * count + 1) / 24)


@cache
def _signed_ways(count: int) -> list[int]:
    """How many sets of the numbers 1 to `count` have this sum, from 0 on."""
    ways = [1] + [0] * (count * (count + 1) // 2)
    for number in range(1, count + 1):
        for n in range(len(ways) - 1, number - 1, -1):
            ways[n] += ways[n - number]
    return ways


def _least_pairs(alpha: float) -> int:
    return next(count for count in range(1, 99) if 2 / 2**count <= alpha)


@cache
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
