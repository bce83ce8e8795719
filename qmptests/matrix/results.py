"""What became of the items of a run: `results.json`, and counts for tables.

The controller makes it from pytest's reports; evidence stays in the folders that it names.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

from qmptests import files, jsontext
from qmptests.errors import InputError
from qmptests.outcome import modes

SCHEMA = 1
"""The number of the schema of `results.json`."""

RESULTS = "results.json"


PLACE = ("source", "destination", "machine")
"""The coordinates by which tables show a cell: each has them."""


class Verdict(StrEnum):
    """What a run says of one of its items."""

    PASSED = "passed"
    FAILED = "failed"
    #: It failed exactly as an entry of the known issues says, or as its own mark `xfail` says.
    EXPECTED = "expected"
    SKIPPED = "skipped"
    #: The process that ran it died.
    LOST = "lost"
    #: Not the thing under test failed, but the machine it ran on, or the test's own preparation.
    ERROR = "error"

    @property
    def bad(self) -> bool:
        """Whether it makes the run fail."""
        return self in (Verdict.FAILED, Verdict.LOST, Verdict.ERROR)

    @property
    def ran(self) -> bool:
        """Whether something was tested."""
        return self is not Verdict.SKIPPED


class ItemResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One pytest item. `seconds`: setup, call and teardown. `cell`: its id, if it has one.

    `result`: its migration's (the last that was not as expected, or the last). `because`: the
    reason in one line. `issue`: the known issue that explains it. `evidence`: folder of that
    migration, relative to the run folder where it lies in it. `not_checked`: what of its migrations
    was not checked, in words with semicolons in between. `downtime_ms`: QEMU's figure.
    """

    nodeid: str
    verdict: Verdict
    seconds: float
    cell: str = ""
    coordinates: dict[str, str] = {}
    result: str = ""
    because: str = ""
    issue: str = ""
    evidence: str = ""
    not_checked: str = ""
    downtime_ms: int | None = None
    worker: str = ""


class RunResults(msgspec.Struct, kw_only=True):
    """The content of `results.json`.

    `findings`: what fails the run besides its items, a line each (known issues that are stale,
    a run in which nothing ran). `issues`: reference of each known issue, by its name. `exit`:
    pytest's exit status. `not_run`: selected cells without an item's verdict, since the run was
    stopped. `tests`: how many items there are, so that one which is lost from the file is missed.
    """

    schema: int = SCHEMA
    started: float
    seconds: float
    items: list[ItemResult]
    findings: list[str] = []
    issues: dict[str, str] = {}
    not_run: list[str] = []
    exit: int
    tests: int | None = None


def count(items: Iterable[ItemResult]) -> Counter[Verdict]:
    """Verdict -> how many, in the order of Verdict; 0 of any other."""
    found = Counter(item.verdict for item in items)
    return Counter({verdict: found[verdict] for verdict in Verdict if found[verdict]})


def by_pair(items: Iterable[ItemResult]) -> dict[tuple[str, str], list[ItemResult]]:
    """(source, destination) -> items, in the order in which the pairs first came."""
    pairs: dict[tuple[str, str], list[ItemResult]] = {}
    for item in items:
        if item.cell:
            pair = (item.coordinates["source"], item.coordinates["destination"])
            pairs.setdefault(pair, []).append(item)
    return pairs


def write(folder: Path, results: RunResults) -> None:
    """Write `results.json` in one step; raises EnvironmentFailure."""
    results = msgspec.structs.replace(results, tests=len(results.items))
    files.write(folder / RESULTS, jsontext.encode(results), modes.of_files(folder))


def read(folder: Path) -> RunResults:
    """The results of a run; raises InputError."""
    file = files.within(folder, RESULTS)
    results = files.read_json(file, RunResults, "results", schema=SCHEMA)
    if results.tests not in (None, len(results.items)):
        raise InputError(
            f"{file} is damaged: {len(results.items)} of {results.tests} tests are there"
        )
    for item in results.items:
        if item.cell and (lacking := set(PLACE) - item.coordinates.keys()):
            axes = ", ".join(sorted(lacking))
            raise InputError(f"{file} is damaged: cell '{item.cell}' has no coordinate {axes}")
    return results
