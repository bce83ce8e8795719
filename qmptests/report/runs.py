"""Run folders read back: what each cell took. What can't be read is a line, not the end."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from qmptests import files
from qmptests.builds.registry import version_order
from qmptests.downtime import analysis
from qmptests.downtime.analysis import Analysis
from qmptests.errors import InputError
from qmptests.matrix import results as matrix_results
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.outcome import folder as outcomes
from qmptests.outcome.record import BuildRecord, HostRecord, OutcomeRecord, Result
from qmptests.outcome.unchecked import unchecked


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


#: What `qmptests bench` leaves in its folder.
BENCH = "bench.json"


class Ran:
    """What a run was of: each build by its name, and the machine of the first migration."""

    def __init__(self) -> None:
        self.builds: dict[str, BuildRecord] = {}
        self.host: HostRecord | None = None

    def see(self, outcome: OutcomeRecord) -> None:
        """One of its migrations."""
        self.host = self.host or outcome.host
        for side in [outcome.source, *outcome.destinations]:
            if side is not None:
                self.builds.setdefault(side.build.name, side.build)


class Run:
    """A run folder. `results` is None if the run was cut short. `problems`: what can't be read.

    A bench's folder is a run too, though it has no verdicts of its own. Evidence that lies outside
    is a problem, and no item's.
    """

    def __init__(self, folder: Path, results: RunResults | None, problems: list[str]) -> None:
        self.folder = folder
        self.results = results
        self.problems = problems
        for item in results.items if results else ():
            if item.evidence and not self._is_within(name_of(item), item.evidence):
                item.evidence = ""
        told = (folder / matrix_results.RESULTS).exists()
        self.is_bench = results is None and not told and (folder / BENCH).is_file()
        self.is_cut_short = results is None and not told and not self.is_bench

    def verdicts(self) -> RunResults:
        """What the run says; of one that was cut short, what its finished migrations say."""
        if self.results is not None:
            return self.results
        items = []
        began: list[float] = []
        for name, folder in self._folders():
            outcome = self._outcome(name, folder)
            if outcome is not None:
                items.append(_item(name, str(folder.relative_to(self.folder)), outcome))
                began.append(outcome.created)
        fine = self.is_bench and not any(item.verdict.bad for item in items)
        return RunResults(
            started=min(began, default=0.0), seconds=0.0, items=items, exit=0 if fine else 1
        )

    def ran(self) -> Ran:
        """What it was of."""
        ran = Ran()
        for name, folder in self._folders():
            outcome = self._outcome(name, folder)
            if outcome is not None:
                ran.see(outcome)
        return ran

    def migrations(self) -> Iterator[Migration]:
        """One after the other, each read when it is asked for."""
        for name, folder in self._folders():
            outcome = self._outcome(name, folder)
            if outcome is None:
                continue
            made = None
            try:
                made = analysis.analyse(folder)
            except InputError as error:
                self._note(f"{name}: no analysis: {error}")
            if made is not None and made.problems and outcome.result == Result.COMPLETED:
                self._note(f"{name}: {made.problems[0]}")
            yield Migration(name=name, folder=folder, outcome=outcome, analysis=made)

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """Each migration's name and folder."""
        if self.results is None:
            for folder in sorted(file.parent for file in self.folder.glob("*/*/outcome.json")):
                name = str(folder.relative_to(self.folder))
                if self._is_within(name, name):
                    yield name, folder
            return
        for item in self.results.items:
            if item.evidence:
                yield name_of(item), self.folder / item.evidence

    def _is_within(self, name: str, evidence: str) -> bool:
        """Whether a migration's folder lies in the run's; if not, that is a problem."""
        try:
            files.within(self.folder, evidence)
        except InputError as error:
            self._note(f"{name}: {error}")
            return False
        return True

    def _outcome(self, name: str, folder: Path) -> OutcomeRecord | None:
        try:
            return outcomes.load(folder)
        except InputError as error:
            self._note(f"{name}: {error}")
            return None

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _item(name: str, evidence: str, outcome: OutcomeRecord) -> ItemResult:
    """The item that a migration of a run without verdicts is."""
    good = outcome.result == outcome.plan.expected
    coordinates = {}
    if outcome.source and outcome.destinations:
        coordinates = {
            "source": outcome.source.build.name,
            "destination": outcome.destinations[-1].build.name,
            "machine": outcome.plan.machine,
        }
    return ItemResult(
        nodeid=name,
        verdict=Verdict.PASSED if good else Verdict.FAILED,
        seconds=0.0,
        cell=(outcome.cell or outcome.name) if coordinates else "",
        coordinates=coordinates,
        result=str(outcome.result),
        because="" if good else outcome.error,
        evidence=evidence,
        not_checked="; ".join(unchecked(outcome)),
        downtime_ms=outcome.attempts[-1].times.downtime_ms if outcome.attempts else None,
    )


def in_order(items: Iterable[ItemResult]) -> list[ItemResult]:
    """By name, versions from old to new: workers end them in any order."""
    return sorted(items, key=lambda item: version_order(name_of(item)))


def name_of(item: ItemResult) -> str:
    """By what an item is found in another run: its node id, wherever that was run."""
    file, colons, test = item.nodeid.partition("::")
    return f"{file.rpartition('/')[2]}{colons}{test}" if colons else file


def read(folder: Path) -> Run:
    """A run's folder; raises InputError if there is nothing of a run in it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no run folder: there is no such folder")
    try:
        return Run(folder, matrix_results.read(folder), [])
    except InputError as error:
        if not any(folder.glob("*/*/outcome.json")):
            raise InputError(f"{folder} is no run folder: {error}") from error
        run = Run(folder, None, [])
        if run.is_cut_short:
            run.problems.append(
                f"{folder}: the run was cut short, its verdicts are not known: {error}"
            )
        elif not run.is_bench:
            run.problems.append(f"{folder}: its verdicts can't be read: {error}")
        return run
