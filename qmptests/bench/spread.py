"""Repeats of a figure, summed up."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple


class Spread(NamedTuple):
    """The median, the least and the most of some figures; None for all if there are none."""

    median: float | None
    least: float | None
    most: float | None

    @property
    def off(self) -> float | None:
        """How far the furthest is from the median, as a part of that."""
        if not self.median or self.least is None or self.most is None:
            return None
        return max(self.most - self.median, self.median - self.least) / self.median


def of(figures: Iterable[float | None]) -> Spread:
    """Of those that there are."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return Spread(None, None, None)
    return Spread(statistics.median(known), min(known), max(known))
