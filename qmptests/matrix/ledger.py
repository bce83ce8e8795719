"""The ledger of known issues: which failures are expected, what they look like, and how long.

An issue explains a failure only if cell, result, stage and QEMU's own words are the ones that it
names: any other failure of the same cell stays one. Keys: docs/reference/known-issues.md.
"""

import functools
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from qmptests import toml
from qmptests.errors import InputError
from qmptests.matrix import expression
from qmptests.matrix.cells import Cell
from qmptests.matrix.results import ItemResult, Verdict
from qmptests.migration import Phase
from qmptests.outcome.record import OutcomeRecord, Result

SIDES = ("source", "destination")
RESULTS = tuple(
    result for result in Result if result not in ("completed", "environment", "interrupted")
)
"""The results that can be expected: not success, nor what is no fault of QEMU's."""

#: These phases say that a migration is over, not how far it had come.
_OVER = (Phase.ENDED, Phase.STOPPED)
STAGES = ("", *(phase for phase in Phase if phase not in _OVER))
"""How far a migration can have come; "" is where a QEMU did not start."""

#: Results whose reason is composed of both sides' words, each of which the record has elsewhere.
_QUOTES_BOTH = (Result.FAILED_DESTINATION_ALIVE, Result.FAILED_DESTINATION_EXITED)


class Issue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the ledger. Raises InputError, the key first, for a value that can't be."""

    name: str
    reference: str
    expires: date
    result: str
    side: str
    stage: str
    text: str
    cells: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.name):
            raise InputError(f"name: {self.name!r} is not made of letters, digits, '.', '_', '-'")
        if not self.reference.strip() or not self.reference.isprintable():
            raise InputError("reference: say in one line where the issue is described")
        _check_choice("result", self.result, RESULTS)
        _check_choice("side", self.side, SIDES)
        _check_choice("stage", self.stage, STAGES)
        _check_pattern("text", self.text)
        try:
            _expression(self.cells)
        except InputError as error:
            raise InputError(f"cells: {error}") from error

    def covers(self, coordinates: Mapping[str, str]) -> bool:
        """Whether the issue is known of the cell with these coordinates."""
        return _expression(self.cells).matches(coordinates)

    def why_not(self, record: OutcomeRecord) -> str:
        """The first thing in which a failure differs from this issue, in words; "" if nothing."""
        if record.result != self.result:
            return f"the result is {record.result}, not {self.result}"
        reached = stage(record)
        if reached != self.stage:
            return f"the last phase before the failure is '{reached}', not '{self.stage}'"
        if not any(re.search(self.text, line) for line in words(record, self.side)):
            return f"nothing that the {self.side} said matches {self.text!r}"
        return ""

    def explains(self, record: OutcomeRecord) -> bool:
        """Whether this is how the migration failed."""
        return not self.why_not(record)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The issues of a file, as they are to be read on the day `today`; `where` names the file."""

    issues: tuple[Issue, ...]
    today: date
    where: str = "known issues"

    def issues_of(self, coordinates: Mapping[str, str]) -> list[Issue]:
        """The issues of a cell that have not expired."""
        return [i for i in self.issues if not self._expired(i) and i.covers(coordinates)]

    def findings(self, live: Sequence[Cell], items: Iterable[ItemResult]) -> list[str]:
        """What fails a run in the ledger itself, a line each.

        An entry that expired; one that covers none of `live`, all cells of the matrix that can
        exist, selected or not; one of which a cell passed. A cell passed if all its items that
        ran did, and one of them has seen a migration complete. Entries whose cells did not run
        are not judged.
        """
        ran: dict[str, list[ItemResult]] = defaultdict(list)
        for item in items:
            if item.verdict.ran:
                ran[item.cell].append(item)
        passed = {cell for cell, those in ran.items() if _passed(those)}
        return list(self._findings(live, passed))

    def _findings(self, live: Sequence[Cell], passed: set[str]) -> Iterator[str]:
        for issue in self.issues:
            about = f"{self.where}: issue '{issue.name}'"
            if self._expired(issue):
                yield (
                    f"{about} expired on {issue.expires}: look at {issue.reference}, "
                    "then remove the entry or give it a new date"
                )
                continue
            covered = [cell.id for cell in live if issue.covers(cell.coordinates)]
            if not covered:
                yield f"{about} is of no cell of this matrix: correct {issue.cells!r} or remove it"
            elif gone := [cell for cell in covered if cell in passed]:
                more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
                yield f"{about}: {gone[0]}{more} passed: narrow {issue.cells!r} or remove the entry"

    def _expired(self, issue: Issue) -> bool:
        return self.today > issue.expires


def load(path: Path, today: date) -> Ledger:
    """The ledger in a TOML file.

    Raises InputError with the file and line (syntax) or file, entry and key (values).
    """
    where = str(path)
    tables = toml.convert(toml.read(path, "known issues"), where, _File).issue
    issues: dict[str, Issue] = {}
    for number, table in enumerate(tables, 1):
        named = isinstance(table.get("name"), str) and table["name"]
        entry = f"{where}: issue {table['name']!r}" if named else f"{where}: issue {number}"
        issue = toml.structure(table, entry, Issue)
        if issue.name in issues:
            raise InputError(f"{entry}: name: there are two of this name")
        issues[issue.name] = issue
    return Ledger(tuple(issues.values()), today, where)


def stage(record: OutcomeRecord) -> str:
    """The last phase that was reached before a migration was over; "" if none was."""
    names = [phase.name for phase in record.phases if phase.name not in _OVER]
    return names[-1] if names else ""


def words(record: OutcomeRecord, side: str) -> list[str]:
    """What one side said, line by line, and nothing that the other said.

    The end of its standard error and how it ended, unless we ended it; on the source also QEMU's
    `error-desc`. Our own reason counts where it is about this side (`source: COMMAND: ...` is the
    refusal of a command) or about both (memory, run states, a deadline).
    """
    vms = [record.source, *record.destinations]
    lines = []
    for vm in vms:
        if vm is not None and vm.name.startswith(side):
            lines += vm.stderr_tail
            if vm.exit is not None and not vm.exit.asked:
                lines.append(vm.exit.text)
    if side == "source":
        lines += [attempt.error for attempt in record.attempts]
    others = tuple(other for other in SIDES if other != side)
    if record.result not in _QUOTES_BOTH and not record.error.startswith(others):
        lines.append(record.error)
    return [line for line in lines if line]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    issue: list[dict[str, Any]] = []


def _passed(items: Sequence[ItemResult]) -> bool:
    return all(item.verdict is Verdict.PASSED for item in items) and any(
        item.result == Result.COMPLETED for item in items
    )


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{key}: {value!r} is none of {', '.join(c or repr(c) for c in choices)}")


def _check_pattern(key: str, text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a pattern that means something else in a later Python
            pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{key}: {text!r} is not a regular expression: {reason}") from error
    if pattern.search(""):
        raise InputError(f"{key}: {text!r} matches any words; quote some of QEMU's")


#: A ledger has few of them, and asks each about every cell.
_expression = functools.lru_cache(expression.parse)
