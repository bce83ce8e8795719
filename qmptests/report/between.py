"""Runs held against runs, cell by cell and all cells together: what has changed, by how much."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

import msgspec

from qmptests.errors import InputError
from qmptests.report import comparison, effect
from qmptests.report.comparison import Row
from qmptests.report.effect import Verdict
from qmptests.report.runs import Run

#: Figure -> its repeats, of each migration by its name.
Cells = Mapping[str, Mapping[str, Sequence[float]]]

#: Fewer cells than this are not put together.
FEWEST_PAIRS = 6


class Cell(msgspec.Struct, frozen=True):
    """One migration that both have, with its figures."""

    name: str
    rows: list[Row]

    @property
    def changed(self) -> bool:
        """Whether a figure has."""
        return any(row.changed for row in self.rows)


class Comparison(msgspec.Struct, frozen=True):
    """B held against A. `together`: each figure over all cells that have it, if they are enough.

    `alone_in_a`, `alone_in_b`: migrations that completed on that side only, and are not compared.
    """

    together: list[Row]
    cells: list[Cell]
    alone_in_a: list[str] = []
    alone_in_b: list[str] = []

    @property
    def rows(self) -> list[Row]:
        """All figures that were judged."""
        return [*self.together, *(row for cell in self.cells for row in cell.rows)]

    @property
    def worse(self) -> bool:
        """Whether a figure has changed for the worse, certainly."""
        return any(row.worse for row in self.rows)

    @property
    def told(self) -> bool:
        """Whether it is worse, or has not become so.

        All cells together tell, where they are put together; else each must.
        """
        return self.worse or comparison.told(self.together or self.rows)

    @property
    def word(self) -> str:
        """The whole of it in a word or two."""
        if self.worse:
            return "Worse"
        return "Not worse" if self.told else "Can't tell"


def repeats(runs: Iterable[Run], patterns: Sequence[str] = ()) -> Cells:
    """The figures of several runs that are wanted, put together by the migrations' names."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for migration in run.migrations():
            for figure, value in migration.figures().items():
                if comparison.wanted(figure, patterns):
                    found[migration.name][figure].append(value)
    return found


def compare(before: Cells, after: Cells) -> Comparison:
    """The migrations that both have; raises InputError if there are none."""
    names = sorted(name for name in before if name in after)
    if not names:
        raise InputError(
            "the runs have no migration in common that completed, with the figures that are asked "
            f"for: A has {len(before)}, B has {len(after)}"
        )
    judged = [comparison.judge(before[name], after[name]) for name in names]
    together, *rows = comparison.confirm([_together(before, after, names), *judged])
    cells = [Cell(*pair) for pair in zip(names, rows, strict=True)]
    return Comparison(together, cells, sorted(before.keys() - after), sorted(after.keys() - before))


def _together(before: Cells, after: Cells, names: Sequence[str]) -> list[Row]:
    """Each figure's medians, a pair for each cell that has them."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name in names:
        for figure, values in before[name].items():
            if figure in after[name]:
                pair = median(values), median(after[name][figure])
                if min(pair) > 0:
                    pairs[figure].append(pair)
    return [
        Row(figure, effect.paired(*zip(*those, strict=True), least=comparison.LEAST_MS))
        for figure, those in pairs.items()
        if len(those) >= FEWEST_PAIRS
    ]


def lines(found: Comparison, *, most: int = 20) -> Iterator[str]:
    """What has changed, a table each, and how many figures have not, or can't be told."""
    if found.together:
        yield f"all {len(found.cells)} cells together, a pair each:"
        yield from comparison.table(found.together)
        yield ""
    shown = [cell for cell in found.cells if cell.changed]
    for cell in shown[:most]:
        yield cell.name
        yield from comparison.table(cell.rows)
        yield ""
    if len(shown) > most:
        yield f"and {len(shown) - most} more cells with changes"
    yield from counts(found)
    yield f"{found.word.lower()}: B, held against A"


def counts(found: Comparison) -> Iterator[str]:
    """How many figures of the cells have changed or not, and what it takes to tell the others."""
    rows = [row for cell in found.cells for row in cell.rows]
    verdicts = [row.effect.verdict for row in rows]
    count = {verdict: verdicts.count(verdict) for verdict in Verdict}
    yield (
        f"{len(verdicts)} figures of {len(found.cells)} cells: {count[Verdict.CHANGED]} changed, "
        f"{count[Verdict.SAME]} not changed, {count[Verdict.UNKNOWN]} can't be told"
    )
    for side, names in (("A", found.alone_in_a), ("B", found.alone_in_b)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"not compared, since it completed in {side} alone: {names[0]}{more}"
    unknown = [row.effect.needed for row in rows if row.effect.needed]
    if unknown:
        yield f"to tell half of those takes about {sorted(unknown)[len(unknown) // 2]} repeats"
    chance = sum(row.changed and not row.certain for row in rows)
    if chance:
        needed = comparison.repeats_to_confirm(len(found.rows))
        yield (
            f"{chance} of the changes may be by chance, being seen among {len(found.rows)} "
            f"figures: from {needed} repeats on they can be certain"
        )
