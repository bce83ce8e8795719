"""`qmptests trace`: questions about trace logs on disk."""

import sys
from pathlib import Path

import click

from qmptests import jsontext
from qmptests.errors import InputError
from qmptests.trace.diff import Difference, Line, compare

SIDES = ("source", "destination")


@click.group()
def trace() -> None:
    """Read and compare trace logs."""


@trace.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--context", default=5, show_default=True, type=click.IntRange(1, 1000), help="Lines to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def diff(a: Path, b: Path, context: int, as_json: bool) -> None:
    """Show where trace logs A and B first differ.

    A and B are two trace logs, or two outcome folders, whose source and destination logs are
    compared each with its like. Times, threads, addresses and measured values are left aside;
    renamed events and device labels are mapped. Exit status: 0 equal, 1 different, 2 bad input.
    """
    pairs = _pairs(a, b)
    results = {side: compare(*pair, context=context) for side, pair in pairs.items()}
    if as_json:
        click.echo(jsontext.encode(results, indent=2), nl=False)
    else:
        for side, result in results.items():
            click.echo(_words(side, result))
    if not any(result.a_lines or result.b_lines for result in results.values()):
        raise InputError(f"{a} and {b} have no lines to compare; was tracing on?")
    sys.exit(0 if all(result.equal for result in results.values()) else 1)


def _pairs(a: Path, b: Path) -> dict[str, tuple[Path, Path]]:
    for path in (a, b):
        if not path.exists():
            raise InputError(f"{path} does not exist; give a trace log or an outcome folder")
    if a.is_dir() != b.is_dir():
        raise InputError(f"{a} and {b} are a folder and a file; give two of a kind")
    if not a.is_dir():
        return {"log": (a, b)}
    names = {side: f"{side}.trace.log" for side in SIDES}
    pairs = {}
    for side, name in names.items():
        present = [folder for folder in (a, b) if (folder / name).exists()]
        if len(present) == 1:
            other = b if present[0] == a else a
            raise InputError(f"{present[0]} has a {name}, but {other} has none; was tracing on?")
        if present:
            pairs[side] = (a / name, b / name)
    if not pairs:
        raise InputError(f"no {' or '.join(names.values())} in {a} and {b}; was tracing on?")
    return pairs


def _words(side: str, result: Difference) -> str:
    sizes = f"A {result.a_lines} lines, B {result.b_lines} lines"
    if result.equal or result.first is None:
        nothing = not (result.a_lines or result.b_lines)
        return f"{side}: {'nothing to compare' if nothing else 'equal'} ({sizes})"
    places = "one place" if result.divergences == 1 else f"{result.divergences} places"
    lines = [f"{side}: differs in {places} ({sizes}); the first:"]
    lines += [_row(" ", line) for line in result.first.before]
    lines += [_row("A", line) for line in result.first.a] or ["A  (end of log)"]
    lines += [_row("B", line) for line in result.first.b] or ["B  (end of log)"]
    for which, only in (("A", result.only_a), ("B", result.only_b)):
        if only:
            listed = ", ".join(f"{name} ({count})" for name, count in only.items())
            lines.append(f"only in {which}: {listed}")
    if result.counts:
        listed = ", ".join(f"{name} ({a}, {b})" for name, (a, b) in result.counts.items())
        lines.append(f"counts differ (A, B): {listed}")
    return "\n".join(lines)


def _row(mark: str, line: Line) -> str:
    return f"{mark} {line.line:>6}  {line.text}"
