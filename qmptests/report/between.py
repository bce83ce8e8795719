"""Runs held against runs, cell by cell: what has changed, by how much, and what can't be told."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from qmptests.errors import InputError
from qmptests.report import comparison
from qmptests.report.comparison import Row
from qmptests.report.effect import Verdict
from qmptests.report.runs import Run

#: Figure -> its repeats, of each migration by its name.
Cells = Mapping[str, Mapping[str, Sequence[float]]]


class Cell(msgspec.Struct, frozen=True):
    """One migration that both have, with its figures."""

    name: str
    rows: list[Row]

    @property
    def worse(self) -> bool:
        """Whether a figure has changed for the worse."""
        return any(row.worse for row in self.rows)


def repeats(runs: Iterable[Run]) -> Cells:
    """The figures of several runs, put together by the migrations' names."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for migration in run.migrations():
            for figure, value in migration.figures().items():
                found[migration.name][figure].append(value)
    return found


def compare(before: Cells, after: Cells) -> list[Cell]:
    """The migrations that both have; raises InputError if there are none."""
    names = [name for name in before if name in after]
    if not names:
        raise InputError(
            "the runs have no migration in common that completed: "
            f"A has {len(before)}, B has {len(after)}"
        )
    return [Cell(name, comparison.judge(before[name], after[name])) for name in names]


def lines(cells: Sequence[Cell], *, most: int = 20) -> Iterator[str]:
    """What has changed, a table each, and how many figures have not, or can't be told."""
    shown = [cell for cell in cells if _changed(cell)]
    for cell in shown[:most]:
        yield cell.name
        yield from comparison.table(cell.rows)
        yield ""
    if len(shown) > most:
        yield f"and {len(shown) - most} more cells with changes"
    verdicts = [row.effect.verdict for cell in cells for row in cell.rows]
    count = {verdict: verdicts.count(verdict) for verdict in Verdict}
    yield (
        f"{len(verdicts)} figures of {len(cells)} cells: {count[Verdict.CHANGED]} changed, "
        f"{count[Verdict.SAME]} not changed, {count[Verdict.UNKNOWN]} can't be told"
    )
    unknown = [row.effect.needed for cell in cells for row in cell.rows if row.effect.needed]
    if unknown:
        yield f"to tell half of those takes about {sorted(unknown)[len(unknown) // 2]} repeats"


def _changed(cell: Cell) -> bool:
    return any(row.effect.verdict is Verdict.CHANGED for row in cell.rows)
