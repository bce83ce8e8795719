"""Figures of two sets of repeats held against each other, as a table that fits a mail."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec
from msgspec.structs import replace

from qmptests.report import effect
from qmptests.report.effect import Effect, Verdict

#: QEMU tells a downtime in whole milliseconds: a change of less is none, however short it is.
LEAST_MS = 1.0
#: Repeats of each figure, milliseconds, by its name.
Figures = Mapping[str, Sequence[float]]


class Row(msgspec.Struct, frozen=True):
    """One figure, which is the better the smaller it is.

    `certain`: whether its change stands among all that were judged with it (`confirm`).
    """

    name: str
    effect: Effect
    certain: bool = False

    @property
    def changed(self) -> bool:
        """Whether it has, seen by itself."""
        return self.effect.verdict is Verdict.CHANGED

    @property
    def worse(self) -> bool:
        """Whether it has changed for the worse, certainly."""
        return self.changed and self.certain and self.effect.shift > 0

    @property
    def told(self) -> bool:
        """Whether there is nothing left to ask."""
        return self.effect.verdict is Verdict.SAME or (self.changed and self.certain)


def wanted(figure: str, patterns: Sequence[str]) -> bool:
    """Whether a figure is to be compared: it matches a pattern, or there is none."""
    return not patterns or any(fnmatchcase(figure, pattern) for pattern in patterns)


def judge(before: Figures, after: Figures) -> list[Row]:
    """What both sides have, in the order of `before`."""
    return [
        Row(name, effect.compare(figures, after[name], least=LEAST_MS))
        for name, figures in before.items()
        if figures and after.get(name)
    ]


def confirm(tables: Sequence[Sequence[Row]], alpha: float = effect.ALPHA) -> list[list[Row]]:
    """The same rows, each change that stands among all of them being `certain`.

    Of many figures some seem to have changed by chance. What stands does so with a chance of
    `alpha` that even one of them is wrong (Holm: A simple sequentially rejective multiple test
    procedure, 1979).
    """
    every = sorted(row.effect.chance for rows in tables for row in rows)
    least = 0.0
    for number, chance in enumerate(every):
        if chance > alpha / (len(every) - number):
            break
        least = chance
    return [[replace(row, certain=row.effect.chance <= least) for row in rows] for rows in tables]


def repeats_to_confirm(count: int, alpha: float = effect.ALPHA) -> int:
    """The fewest repeats of each side with which a change can be certain among so many figures."""
    return effect.least_repeats(alpha / max(count, 1))


def told(rows: Iterable[Row]) -> bool:
    """Whether something is worse for certain, or everything is told."""
    rows = list(rows)
    return any(row.worse for row in rows) or all(row.told for row in rows)


def lines(found: Sequence[Row], before: str, after: str) -> Iterator[str]:
    """A line for each figure. `before`, `after`: what the two sides are called."""
    yield f"A: {before}"
    yield f"B: {after}"
    yield from table(found)


def table(found: Sequence[Row]) -> Iterator[str]:
    """The same without the sides' names."""
    yield f"{'':<12}{'A':>8}{'B':>8}{'noise':>7}{'change':>8}{'95 %':>17}"
    for row in found:
        one = row.effect
        yield (
            f"{row.name:<12}{figure(one.before):>8}{figure(one.after):>8}{noise(one):>7}"
            f"{one.part:>+8.1%}{interval(one):>17} {words(row)}"
        )


def noise(found: Effect) -> str:
    """By how much A's repeats are apart; one has none."""
    return "-" if found.low is None and not found.noise else f"{found.noise:.1%}"


def interval(found: Effect) -> str:
    """The confidence interval, per cent of A."""
    if found.low is None or found.high is None or not found.before:
        return "-"
    low, high = found.low / found.before, found.high / found.before
    return f"{low:+.1%} {high:+.1%}" if max(-low, high) < 1 else f"{low:+.0%} {high:+.0%}"


def words(row: Row) -> str:
    """The verdict; with a question mark if it may be by chance."""
    match row.effect.verdict:
        case Verdict.CHANGED:
            word = "worse" if row.effect.shift > 0 else "better"
            return word if row.certain else f"{word}?"
        case Verdict.SAME:
            return "same"
        case Verdict.UNKNOWN:
            return f"? (~{row.effect.needed})"


def figure(value: float) -> str:
    """Milliseconds, as precise as a reader needs."""
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
