"""Which of the possible cells are run: smoke, pairwise or full."""

import functools
import re
from collections.abc import Iterable, Sequence

from qmptests.builds.registry import version_order
from qmptests.errors import InputError
from qmptests.matrix.cells import Cell
from qmptests.matrix.expression import AXES, Expression, any_matches

Version = list[tuple[int, int | str]]

TIERS = ("smoke", "pairwise", "full")
"""From few to all. Each holds the cells of those before it."""


def select(cells: Sequence[Cell], tier: str, expressions: Sequence[Expression] = ()) -> list[Cell]:
    """All cells in their order, with `tiers` and `selected` filled in.

    `smoke`: each pair of builds once per machine family, on the newest type, with the first
    values of the other axes that it can have; and each further value of those once. `pairwise`:
    also each two values of two axes together, wherever some cell has both. `full`: all that can
    exist. Expressions narrow what the tier has. Raises InputError if nothing is left.
    """
    if tier not in TIERS:
        raise InputError(f"unknown selection '{tier}': there are {', '.join(TIERS)}")
    live = [cell for cell in cells if not cell.pruned]
    members = {"full": {cell.id for cell in live}, "smoke": smoke(live)}
    # A covering array takes time to find: only when it is asked for.
    members["pairwise"] = pairwise(live) | members["smoke"] if tier == "pairwise" else set()
    out = []
    for cell in cells:
        if cell.pruned:
            out.append(cell)
            continue
        tiers = [name for name in TIERS if cell.id in members[name]]
        chosen = cell.id in members[tier] and any_matches(expressions, cell.coordinates)
        out.append(Cell(id=cell.id, coordinates=cell.coordinates, tiers=tiers, selected=chosen))
    if not any(cell.selected for cell in out):
        raise InputError(_nothing(cells, len(members[tier]), tier, expressions))
    return out


def _nothing(cells: Sequence[Cell], size: int, tier: str, expressions: Sequence[Expression]) -> str:
    if not size:
        reasons = ", ".join(f"{count} {reason}" for reason, count in pruned_counts(cells).items())
        details = {cell.detail for cell in cells}
        why = f" ({details.pop()})" if len(details) == 1 else ""
        return f"the matrix has no cell that can exist: {reasons or 'no pair of builds'}{why}"
    texts = " or ".join(f"'{expression.text}'" for expression in expressions)
    return f"{texts} selects none of the {size} cells of '{tier}'"


def pruned_counts(cells: Iterable[Cell]) -> dict[str, int]:
    """Reason code -> how many cells can't exist for it."""
    counts: dict[str, int] = {}
    for cell in cells:
        if cell.pruned:
            counts[cell.reason] = counts.get(cell.reason, 0) + 1
    return counts


def smoke(live: Sequence[Cell]) -> set[str]:
    """Ids of the smoke tier."""
    newest: dict[tuple[str, str, str], tuple[Version, Cell]] = {}
    for cell in live:  # of each machine the first is the most ordinary one
        at = cell.coordinates
        family, version = _split(at["machine"])
        key = (at["source"], at["destination"], family)
        if key not in newest or version > newest[key][0]:
            newest[key] = version, cell
    chosen = [cell for _, cell in newest.values()]
    for axis in AXES[3:]:
        seen = {cell.coordinates[axis] for cell in chosen}
        for cell in reversed(live):  # the newest machines come last
            if cell.coordinates[axis] not in seen:
                seen.add(cell.coordinates[axis])
                chosen.append(cell)
    return {cell.id for cell in chosen}


@functools.cache
def _split(machine: str) -> tuple[str, Version]:
    """`pc-q35-10.0` -> family `pc-q35` and an order of versions."""
    matched = re.fullmatch(r"(.+)-(\d+(?:\.\d+)*)", machine)
    return (matched[1], version_order(matched[2])) if matched else (machine, [])


def pairwise(live: Sequence[Cell]) -> set[str]:
    """Ids of cells among which each two values of two axes occur together, if any cell has both."""
    from covertable import make  # noqa: PLC0415 - not wanted by `smoke` and `full`

    values = {axis: list(dict.fromkeys(c.coordinates[axis] for c in live)) for axis in AXES}
    if not live:
        return set()
    # For each value the cells that have it, a bit each: a row that is only begun can still become
    # a cell if some bit is common to all its values. That is exact, where rules that look at two
    # axes at a time are not.
    having = {(axis, value): 0 for axis in AXES for value in values[axis]}
    by_coordinates = {}
    for number, cell in enumerate(live):
        by_coordinates[tuple(cell.coordinates[axis] for axis in AXES)] = cell.id
        for axis in AXES:
            having[axis, cell.coordinates[axis]] |= 1 << number

    def possible(row: dict[str, str]) -> bool | None:
        common = -1
        for item in row.items():
            common &= having[item]
            if not common:
                return False
        return True if len(row) == len(AXES) else None  # None: not decided yet

    rows = make(values, constraints=[{"operator": "fn", "requires": [], "evaluate": possible}])
    return {by_coordinates[tuple(row[axis] for axis in AXES)] for row in rows}
