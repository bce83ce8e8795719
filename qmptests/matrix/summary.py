"""What became of a matrix, in plain text that is as good in a mail as on a terminal."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from qmptests import printable
from qmptests.matrix import common, table
from qmptests.matrix.cells import Reason
from qmptests.matrix.results import RESULTS, ItemResult, RunResults, Verdict, count
from qmptests.matrix.selection import pruned_counts
from qmptests.matrix.store import Matrix
from qmptests.outcome.record import Result

WIDTH = table.WIDTH
"""No line is longer, unless a single name or path is."""

GROUPS = 12
"""So many different failures are described."""

#: Failures alike are named one by one up to this many.
_NAMED = 3
_LONGEST_REASON = 240

PRUNED = {
    Reason.SAME_BUILD: "would go from a build to itself",
    Reason.SAME_BINARY: "would go from a binary to itself under another name",
    Reason.ARCHITECTURE_DIFFERS: "would go to another architecture",
    Reason.ACCELERATOR_LACKING: "lack the accelerator",
    Reason.MACHINE_LACKING: "have a machine type that one side lacks",
    Reason.MACHINE_DEPRECATED: "have a deprecated machine type",
    Reason.NO_COMMON_MACHINE: "have no machine type of the family in common",
    Reason.DEVICE_LACKING: "have a device that one side lacks",
    Reason.CAPABILITY_LACKING: "have a migration capability that one side lacks",
    Reason.TRANSPORT_WITHOUT_MULTIFD: "want multifd over a transport that can't have it",
}
"""Why cells can't exist, in words that follow their number."""


def lines(matrix: Matrix, results: RunResults, folder: Path) -> list[str]:
    """The whole account of a run: a table of its pairs, what was bad, what was not run, the counts.

    `folder`: the run folder, as it is to be called.
    """
    place = {cell.id: number for number, cell in enumerate(matrix.cells)}
    items = sorted(results.items, key=lambda item: place.get(item.cell, len(place)))
    parts = [
        table.lines(items),
        list(_failures(items)),
        list(_known(results)),
        [line for finding in results.findings for line in _wrap(f"finding: {finding}")],
        list(_not_run(results)),
        not_checked_of(items),
        pruned(matrix),
        _wrap(_counts(matrix, results, folder)),
    ]
    return [line for part in parts if part for line in ("", *part)][1:]


def pruned(matrix: Matrix) -> list[str]:
    """How many cells can't exist, for each reason."""
    counts = pruned_counts(matrix.cells)
    if not counts:
        return []
    reasons = (f"{number} {PRUNED[Reason(reason)]}" for reason, number in counts.items())
    total = number_of(sum(counts.values()), "cell")
    return _wrap(f"{total} can't exist: {', '.join(reasons)}")


def not_checked_of(items: Iterable[ItemResult]) -> list[str]:
    """What was not checked of migrations that are called good, and of how many."""
    return not_checked(item.not_checked for item in items if not item.verdict.bad)


def not_checked(told: Iterable[str]) -> list[str]:
    """The same of tests of each of which that is told, with semicolons in between."""
    counts = Counter(text for each in told for text in each.split("; ") if text)
    words = [f"{text} ({number_of(number, 'test')})" for text, number in counts.most_common()]
    return _wrap(f"not everything was checked: {'; '.join(words)}") if words else []


def kind(item: ItemResult) -> str:
    """`failed (timed-out)`: an item's verdict, and its migration's result if that says more."""
    if item.result == Result.COMPLETED:
        return f"{item.verdict} (the migration completed)"
    return (
        f"{item.verdict} ({item.result})" if item.result not in ("", item.verdict) else item.verdict
    )


def reason(item: ItemResult) -> str:
    """Why an item is bad: a line without timestamps and program names, of a long one both ends."""
    text = re.sub(r"(\b\d{4}-\d\d-\d\dT[\d:.]+Z )?\bqemu-system-\w+: ", "", item.because)
    text = printable.unwrapped(text)
    if len(text) <= _LONGEST_REASON:
        return text
    half = _LONGEST_REASON // 2 - 3
    return f"{text[:half]} ... {text[-half:]}"


def number_of(number: int, thing: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number} {thing}{'s' * (number != 1)}"


def alike(items: Iterable[ItemResult]) -> list[list[ItemResult]]:
    """Items with the same verdict, result and reason together, the largest group first."""
    groups: dict[tuple[str, ...], list[ItemResult]] = {}
    for item in items:
        key = (item.verdict, item.result, _masked(item))
        groups.setdefault(key, []).append(item)
    return sorted(groups.values(), key=len, reverse=True)


def _failures(items: Sequence[ItemResult]) -> Iterator[str]:
    """What failed, a few of each kind."""
    bad = [item for item in items if item.verdict.bad]
    if shared := common.sentence(items):
        yield from _wrap(shared)
        yield ""
    ordered = alike(bad)
    for number, group in enumerate(ordered[:GROUPS]):
        if number:
            yield ""
        yield from _group(group)
    if left := sum(map(len, ordered[GROUPS:])):
        yield f"and {left} more, see {RESULTS}"
    if any(item.evidence and item.verdict is not Verdict.LOST for item in bad):
        yield ""
        yield "to repeat one without qmptests: `sh EVIDENCE/reproduce.sh` in the run folder"


def _masked(item: ItemResult) -> str:
    """The reason without what differs between failures that are alike."""
    text = item.because.replace(item.cell, "") if item.cell else item.because
    return re.sub(r"0x[0-9a-fA-F]+|\d+", "#", text)


def _group(group: list[ItemResult]) -> Iterator[str]:
    first, *others = group
    times = f"{len(group)} times " if others else ""
    yield from _wrap(f"{times}{kind(first)}: {_name(first)}")
    if first.because:
        yield from _wrap(reason(first), "  ")
    if first.evidence:
        yield f"  evidence: {first.evidence}"
    if others:
        named = [_name(item) for item in others[:_NAMED]]
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        yield from _wrap(f"also {', '.join(named)}{more}", "  ")


def _name(item: ItemResult) -> str:
    return item.cell or item.nodeid


def _known(results: RunResults) -> Iterator[str]:
    """Expected failures, by the known issue that explains them."""
    counts = Counter(item.issue for item in results.items if item.issue)
    for issue, number in counts.most_common():
        where = f" ({results.issues[issue]})" if issue in results.issues else ""
        yield from _wrap(f"{number} expected, known issue {issue}{where}")


def _not_run(results: RunResults) -> Iterator[str]:
    if not results.not_run:
        return
    names = ", ".join(name.partition("::")[2] for name in results.not_run[:_NAMED])
    more = len(results.not_run) - _NAMED
    yield from _wrap(
        f"{len(results.not_run)} not run, since the run was stopped: {names}"
        + (f" and {more} more, see {RESULTS}" if more > 0 else "")
    )


def _counts(matrix: Matrix, results: RunResults, folder: Path) -> str:
    counts = count(results.items)
    said = [f"{counts[v]} {v}" for v in Verdict if counts[v]]
    text = ", ".join(said).replace(" expected", " expected (known issues)") or "nothing ran"
    cells, tests = len(matrix.selected), len(results.items) + len(results.not_run)
    of = number_of(cells, "cell")
    if tests not in (cells, 0):
        of = f"{number_of(tests, 'test')} of {of}"
    pruned_cells = len(matrix.cells) - len(matrix.live)
    impossible = f"; {pruned_cells} can't exist" if pruned_cells else ""
    not_run = f", {len(results.not_run)} not run" if results.not_run else ""
    seconds = f"{results.seconds:.0f}" if results.seconds >= 10 else f"{results.seconds:.1f}"
    return f"{text}{not_run} of {of} in {seconds} s{impossible}; evidence: {folder}"


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        printable.unwrapped(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
