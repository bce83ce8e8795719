"""Run folders read back: what each cell took. What can't be read is a line, not the end."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from qmptests.downtime import analysis
from qmptests.downtime.analysis import Analysis
from qmptests.errors import InputError
from qmptests.matrix import results as matrix_results
from qmptests.matrix.results import ItemResult, RunResults
from qmptests.outcome import folder as outcomes
from qmptests.outcome.record import OutcomeRecord, Result


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One migration of a run. `name`: what it is known by in each run: test and cell.

    `analysis` is None if its downtime can't be told.
    """

    name: str
    folder: Path
    outcome: OutcomeRecord
    analysis: Analysis | None

    def figures(self) -> dict[str, float]:
        """Milliseconds, by name, of a migration that completed; of others there are none."""
        if self.outcome.result != Result.COMPLETED or not self.outcome.attempts:
            return {}
        times = self.outcome.attempts[-1].times
        found: dict[str, float] = {}
        if times.total_ms is not None:
            found["total"] = float(times.total_ms)
        made = self.analysis
        if made is not None and made.downtime is not None:
            found = {"downtime": made.downtime.us / 1e3, "precopy": made.precopy.us / 1e3} | found
            devices = {device.name for device in made.precopy.devices}
            for share in made.downtime.shares():
                if share.owner in devices:
                    name = f"{share.owner} {share.step}"
                    found[name] = found.get(name, 0.0) + share.us / 1e3
        elif times.downtime_ms is not None:
            found = {"downtime": float(times.downtime_ms)} | found
        return found


class Run:
    """A run folder. `results` is None if the run was cut short. `problems`: what can't be read."""

    def __init__(self, folder: Path, results: RunResults | None, problems: list[str]) -> None:
        self.folder = folder
        self.results = results
        self.problems = problems

    def migrations(self) -> Iterator[Migration]:
        """One after the other, each read when it is asked for."""
        if self.results is None:
            found = sorted(file.parent for file in self.folder.glob("*/*/outcome.json"))
            for folder in found:
                yield from self._read(str(folder.relative_to(self.folder)), folder)
            return
        for item in self.results.items:
            if item.evidence:
                yield from self._read(name_of(item), self.folder / item.evidence)

    def _read(self, name: str, folder: Path) -> Iterator[Migration]:
        try:
            outcome = outcomes.load(folder)
        except InputError as error:
            self.problems.append(f"{name}: {error}")
            return
        made = None
        try:
            made = analysis.analyse(folder)
        except InputError as error:
            self.problems.append(f"{name}: no analysis: {error}")
        yield Migration(name=name, folder=folder, outcome=outcome, analysis=made)


def name_of(item: ItemResult) -> str:
    """By what an item is found in another run: its node id, wherever that was run."""
    return item.nodeid.rpartition("/")[2]


def read(folder: Path) -> Run:
    """A run's folder; raises InputError if there is nothing of a run in it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no run folder: there is no such folder")
    problems: list[str] = []
    results = None
    try:
        results = matrix_results.read(folder)
    except InputError as error:
        if not any(folder.glob("*/*/outcome.json")):
            raise InputError(f"{folder} is no run folder: {error}") from error
        problems.append(f"{folder}: the run was cut short, its verdicts are not known: {error}")
    return Run(folder, results, problems)
