"""The table of a matrix: what became of the cells of each pair of builds."""

import statistics
from collections.abc import Iterable, Sequence

from qmptests.builds.registry import version_order
from qmptests.matrix.results import ItemResult, Verdict, by_pair, count

WIDTH = 100
"""No line is longer."""

Row = list[str]
_LEFT = ("pair", "machines")


def lines(items: Sequence[ItemResult]) -> list[str]:
    """A row for each pair of builds, one for tests without a cell, and the total."""
    wide = columns(rows(items), left=_LEFT)
    if all(len(line) <= WIDTH for line in wide):
        return wide
    return columns(rows(items, brief=True), left=_LEFT)


def rows(items: Sequence[ItemResult], *, brief: bool = False) -> list[Row]:
    """What is in the table, headings first, without columns in which nothing is."""
    pairs = by_pair(items)
    found = [_row(f"{source} -> {to}", of, brief) for (source, to), of in pairs.items()]
    if others := [item for item in items if not item.cell]:
        found.append(_row("other tests", others, brief))
    if len(found) > 1:
        found.append(_row("total", items, brief))
    heading = ["pair", "cells", *Verdict, "machines", "median", "downtime"]
    return _without_zeros([heading, *found]) if found else []


def machine_range(names: Iterable[str]) -> str:
    """`i440fx 2.4 to 10.0, q35 2.4 to 10.0`: oldest and newest type of each family."""
    families: dict[str, list[str]] = {}
    for name in sorted(set(names), key=version_order):
        family, _, version = name.removeprefix("pc-").rpartition("-")
        families.setdefault(family or name, []).append(version if family else "")
    return ", ".join(
        f"{family} {f'{those[0]} to {those[-1]}' if len(those) > 1 else those[0]}".strip()
        for family, those in families.items()
    )


def columns(rows: Sequence[Row], left: Iterable[str]) -> list[str]:
    """Aligned rows, the first being the headings; columns in `left` start at their left edge."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush = [heading in left for heading in rows[0]]
    return [
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, flush, strict=True)
        ).rstrip()
        for row in rows
    ]


def grid(rows: Sequence[Row], width: int) -> list[str]:
    """Rows in a frame, the first being the headings, without the last columns if it is too wide."""
    while rows and sum(max(map(len, column)) + 3 for column in zip(*rows, strict=True)) >= width:
        rows = [row[:-1] for row in rows]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = f"+{'+'.join('-' * (width + 2) for width in widths)}+"
    told = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    return [rule, told[0], rule, *told[1:], rule]


def _row(name: str, items: Sequence[ItemResult], brief: bool) -> Row:
    counts = count(items)
    ran = [item for item in items if item.verdict.ran]
    machines = {item.coordinates["machine"] for item in ran if item.cell}
    downtimes = [item.downtime_ms for item in items if item.downtime_ms is not None]
    return [
        " -> ".join(_cut(build, 18) for build in name.split(" -> ")) if brief else name,
        str(len({item.cell for item in ran if item.cell}) or ""),
        *(str(counts[verdict] or "") for verdict in Verdict),
        str(len(machines) or "") if brief else machine_range(machines),
        f"{statistics.median(item.seconds for item in ran):.2f} s" if ran else "",
        f"{statistics.median(downtimes):.0f} ms" if downtimes else "",
    ]


def _without_zeros(rows: Sequence[Row]) -> list[Row]:
    """Only columns in which some row below the headings has something."""
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [list(row) for row in zip(*kept, strict=True)]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
