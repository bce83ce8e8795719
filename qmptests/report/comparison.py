"""Figures of two sets of repeats held against each other, as a table that fits a mail."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from qmptests.report import effect
from qmptests.report.effect import Effect, Verdict

#: QEMU tells a downtime in whole milliseconds: a change of less is none, however short it is.
LEAST_MS = 1.0
#: Repeats of each figure, milliseconds, by its name.
Figures = Mapping[str, Sequence[float]]


class Row(msgspec.Struct, frozen=True):
    """One figure, which is the better the smaller it is."""

    name: str
    effect: Effect

    @property
    def worse(self) -> bool:
        """Whether it has changed for the worse."""
        return self.effect.verdict is Verdict.CHANGED and self.effect.shift > 0


def judge(before: Figures, after: Figures) -> list[Row]:
    """What both sides have, in the order of `before`."""
    return [
        Row(name, effect.compare(figures, after[name], least=LEAST_MS))
        for name, figures in before.items()
        if figures and after.get(name)
    ]


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
            f"{row.name:<12}{_figure(one.before):>8}{_figure(one.after):>8}{one.noise:>7.1%}"
            f"{one.part:>+8.1%}{_interval(one):>17} {_words(row)}"
        )


def _interval(found: Effect) -> str:
    if found.low is None or found.high is None or not found.before:
        return "-"
    low, high = found.low / found.before, found.high / found.before
    return f"{low:+.1%} {high:+.1%}" if max(-low, high) < 1 else f"{low:+.0%} {high:+.0%}"


def _words(row: Row) -> str:
    match row.effect.verdict:
        case Verdict.CHANGED:
            return "worse" if row.worse else "better"
        case Verdict.SAME:
            return "same"
        case Verdict.UNKNOWN:
            return f"? (~{row.effect.needed})"


def _figure(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
