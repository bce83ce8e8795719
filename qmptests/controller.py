"""The controller of a pytest session with a matrix: selects cells, and keeps account of them.

It is the process that the user started: xdist's workers only read what it wrote.
"""

import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from qmptests import printable, workers
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.fixtures import evidence, options, rootdir, verdicts
from qmptests.fixtures.cells import RUN, MatrixRun
from qmptests.fixtures.options import option, values
from qmptests.matrix import account, cells, request, results, store, summary
from qmptests.migration import lost
from qmptests.outcome import folder as folders


class Controller:
    """One session's matrix, from the selection to `results.json`."""

    def __init__(self, config: pytest.Config, run: MatrixRun) -> None:
        self.config = config
        self.run = run
        self.account = account.Account()
        self.results: results.RunResults | None = None
        self._locations: dict[str, str] = {}
        plans = (run.matrix.plan(cell, run.builds) for cell in run.matrix.selected)
        limit_s = max((plan.timeout_s * (plan.retries + 1) for plan in plans), default=0.0)
        self._workers = workers.Workers(limit_s)
        config.pluginmanager.register(self._workers, "qmptests-workers")
        self._began = time.monotonic()
        self._started = time.time()

    @classmethod
    def begin(cls, config: pytest.Config) -> "Controller":
        """Select the cells and create the run folder.

        Raises pytest.UsageError for bad input, with one line; ends pytest with status 3 if this
        machine could not do it.
        """
        if problem := rootdir.ini_problem(config):
            raise pytest.UsageError(problem)
        try:
            verdicts.ledgers(config)  # a wrong one is found before anything runs
            matrix, builds = _select(config)
            folder = _make_folder(config)
            store.write(folder, matrix, builds)
        except InputError as error:
            raise pytest.UsageError(str(error)) from None
        except EnvironmentFailure as error:
            pytest.exit(f"environment: {error}", returncode=EnvironmentFailure.exit_code)
        run = config.stash[RUN] = MatrixRun(folder, matrix, {b.name: b for b in builds})
        config.hook.pytest_qmptests_selected(matrix=matrix, folder=folder)
        return cls(config, run)

    def pytest_report_header(self) -> list[str]:
        matrix = self.run.matrix
        names = ", ".join(f"{b.name} ({b.spec})" for b in matrix.builds.values())
        pruned = len(matrix.cells) - len(matrix.live)
        header = [
            f"qemu: {names}",
            f"qemu: {len(matrix.selected)} cells ({matrix.select}) of {len(matrix.live)} "
            f"that can exist, {pruned} can't; run folder: {self.run.folder}",
        ]
        return [printable.one_line(line) for line in header]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if not self.account.expected:
            self._expect(list(ids))

    def _expect(self, nodeids: list[str]) -> None:
        self.account.expected = nodeids
        self.config.hook.pytest_qmptests_collected(nodeids=nodeids)

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._locations[nodeid] = location[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        died = report.when not in ("setup", "call", "teardown")
        properties = {name: str(value) for name, value in report.user_properties}
        if died:
            why = self._workers.killed.get(_worker(report), "")
            properties |= self._keep_lost(report.nodeid, why)
        self._workers.hear(_worker(report))
        finished = self.account.add(
            account.PhaseReport(
                nodeid=report.nodeid,
                when="" if died else str(report.when),
                outcome=report.outcome,
                expected=report.skipped and _failed_as_marked(report),
                seconds=report.duration,
                properties=properties,
                because=_because(report),
                worker=_worker(report),
            )
        )
        if finished is not None:
            self.config.hook.pytest_qmptests_item(result=finished)

    def _keep_lost(self, nodeid: str, why: str) -> dict[str, str]:
        """An outcome for a cell whose worker died, in the folder that the worker had begun.

        `why`, if it is known: else xdist's words must do.
        """
        cell = _cell_of(self.run.matrix, nodeid)
        if cell is None:
            return {}
        found = {"qemu_cell": cell.id, "qemu_result": "lost"}
        found |= {f"qemu_{axis}": name for axis, name in cell.coordinates.items()}
        found |= {"qemu_because": why} if why else {}
        location = self._locations.get(nodeid, "")
        folder = evidence.begun(
            evidence.folder(self.run.folder, self.config.rootpath, location, nodeid)
        )
        try:
            plan = self.run.matrix.plan(cell, self.run.builds)
            lost.write(plan, folder, options.mode(self.config), why or lost.DIED)
        except (InputError, EnvironmentFailure) as error:
            return {**found, "qemu_because": f"its outcome can't be written: {error}"}
        return {**found, "qemu_evidence": str(folder.relative_to(self.run.folder))}

    @pytest.hookimpl(wrapper=True, trylast=True)  # so that the terminal's summary comes after it
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        try:
            return (yield)  # xdist's workers end in there
        finally:  # also after a second Ctrl-C
            if not self.config.option.collectonly:
                self._finish(session)

    def _finish(self, session: pytest.Session) -> None:
        items = self.account.items
        live = self.run.matrix.live
        findings = [
            finding
            for book in verdicts.ledgers(self.config)
            for finding in book.findings(live, items)
        ]
        empty, not_run = account.nothing_ran(items), self.account.not_run()
        usual = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if empty and usual:
            findings.append(empty)
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        elif not_run and usual:  # as pytest.exit(returncode=0) has it
            findings.append(f"{summary.number_of(len(not_run), 'test')} did not run")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif findings and usual:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.results = results.RunResults(
            started=self._started,
            seconds=round(time.monotonic() - self._began, 3),
            items=items,
            findings=findings,
            issues={
                issue.name: issue.reference
                for book in verdicts.ledgers(self.config)
                for issue in book.issues
            },
            not_run=not_run,
            exit=int(session.exitstatus),
        )
        try:
            store.hide(self.run.folder, self.run.matrix)
            results.write(self.run.folder, self.results)
        except EnvironmentFailure as error:
            self.results.findings.append(str(error))
            session.exitstatus = EnvironmentFailure.exit_code
        self.config.hook.pytest_qmptests_finished(
            matrix=self.run.matrix, results=self.results, folder=self.run.folder
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.results is not None:
            terminalreporter.section("qemu matrix")
            for line in summary.lines(self.run.matrix, self.results, self.run.folder):
                terminalreporter.line(printable.one_line(line))


def _select(config: pytest.Config) -> "tuple[store.Matrix, list[Any]]":
    """The matrix that the options and the ini file ask for, and its builds."""
    asked = request.Request(
        **_sides(config),
        machines=values(config, "qemu_machine"),
        vms=values(config, "qemu_vm"),
        devices=values(config, "qemu_device"),
        transports=values(config, "qemu_transport"),
        capabilities=values(config, "qemu_capabilities"),
        accelerator=option(config, "qemu_accel") or "tcg",
        deprecated=not config.getoption("qemu_no_deprecated"),
        same_build=config.getoption("qemu_same_build"),
    )
    tier = option(config, "qemu_matrix") or "smoke"
    return request.matrix(asked, tier, values(config, "qemu_cell"), _progress())


def _sides(config: pytest.Config) -> dict[str, list[str]]:
    """Builds, sources and destinations: all from the command line, or all from the ini file."""
    names = {
        "builds": "qemu_build",
        "sources": "qemu_source",
        "destinations": "qemu_destination",
    }
    given = {key: list(config.getoption(name)) for key, name in names.items()}
    if any(given.values()):
        return given
    of_ini = {key: values(config, name) for key, name in names.items()}
    if of_ini["builds"]:  # source and destination are for tests that take no cell
        return {"builds": of_ini["builds"]}
    return of_ini


def _progress() -> Callable[[str], None]:
    """A line for each step that takes time, without the figures that change while it lasts."""
    said: set[str] = set()

    def say(text: str) -> None:
        step = text.partition(",")[0]
        if step not in said:
            said.add(step)
            print(printable.one_line(text), file=sys.stderr, flush=True)  # noqa: T201 - pytest's reporter is not there yet

    return say


def _make_folder(config: pytest.Config) -> Path:
    wanted = option(config, "qemu_results")
    if not wanted or config.option.collectonly:
        factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
        return factory.mktemp("qemu")
    place, mode = Path(wanted).absolute(), options.mode(config)
    if config.getoption("qemu_results_numbered"):
        return folders.first_free(place, lambda path: folders.make(path, mode))
    return folders.make(place, mode)


def _cell_of(matrix: store.Matrix, nodeid: str) -> cells.Cell | None:
    """The cell whose id stands in a node id; the longest, since one may begin with another."""
    parameters = nodeid.partition("[")[2]
    found = [cell for cell in matrix.selected if cell.id in parameters]
    return max(found, key=lambda cell: len(cell.id), default=None)


def _failed_as_marked(report: pytest.TestReport) -> bool:
    """Whether it ran, and failed as its mark `xfail` says; with run=False, nothing was tested."""
    return not getattr(report, "wasxfail", "[NOTRUN]").startswith(("[NOTRUN]", "reason: [NOTRUN]"))


def _worker(report: pytest.TestReport) -> str:
    """The xdist worker that ran the item; "" if the controller did."""
    node = getattr(report, "node", None)
    return "" if node is None else str(node.gateway.id)


def _because(report: pytest.TestReport) -> str:
    """A failure or a skip in one line."""
    if report.outcome == "passed":
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or "")
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
