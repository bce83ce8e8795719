"""Workers that die, interrupts, and a build that is gone: the account is kept all the same."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from qmptests import builds

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

DYING = """
import os
import signal
from qmptests.migration import Observer, Phase

class Die(Observer):
    async def reached(self, phase, run):
        if phase is Phase.LISTENING:
            os.kill(os.getpid(), signal.SIGKILL)

def test_it(cell, migration):
    dies = cell.coordinates["source"] == "10.0"
    for _ in range({before}):
        assert migration().run().completed
    assert migration().run(*[Die()] * dies).completed
"""
HELD = """
import asyncio
from pathlib import Path
from qmptests.migration import Observer, Phase

class Hold(Observer):
    async def reached(self, phase, run):
        if phase is Phase.LISTENING:
            Path("held").touch()
            await asyncio.Event().wait()

def test_first(cell, migration):
    assert migration().run().completed

def test_held(cell, migration):
    assert migration().run(Hold()).completed
"""
STOPPED = """
import os
import signal
from qmptests.migration import Observer, Phase

class Stop(Observer):
    async def reached(self, phase, run):
        if phase is Phase.LISTENING:
            os.kill(run.source.host._popen.pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)

def test_it(cell, migration):
    stops = cell.coordinates["source"] == "10.0"
    assert migration().run(*[Stop()] * stops).completed
"""
#: The controller with less patience than it has.
IMPATIENT = """
from qmptests import workers
from qmptests.hosts import life
made = workers.Workers.__init__
workers.Workers.__init__ = lambda self, limit_s: made(self, limit_s / 60)
workers.LOOK_S, life.SILENT_S, workers.LAUNCHER_S = 0.1, 0.5, 1.0
"""
NOTING = """
def pytest_qmptests_item(result):
    with open("finished", "a") as file:
        print(result.nodeid, file=file)
"""


def test_a_worker_that_is_stopped_and_its_launcher_with_it(suite: "Suite") -> None:
    """Its cell is lost once its deadline has passed, all others run, and nothing is left."""
    suite.write(STOPPED)
    suite.write(IMPATIENT, "conftest")
    result = suite.matrix("-n2")
    assert result.ret == suite.results.exit == 1
    result.assert_outcomes(passed=1, failed=1)
    there, back = sorted(suite.items)
    item = suite.items[there]
    assert (item.verdict, item.result, item.cell) == ("lost", "lost", there)
    words = f"worker {item.worker} was killed: a signal had stopped it, and the deadline of 1 s "
    assert item.because.startswith(words)
    record = suite.outcome(there)
    assert (record["result"], record["error"]) == ("lost", item.because)
    assert suite.items[back].verdict == "passed"
    assert suite.results.not_run == []
    suite.nothing_is_left()


@pytest.mark.parametrize("before", [0, 1])
def test_a_worker_that_is_killed(suite: "Suite", before: int) -> None:
    """Its cell is lost, with what it had written by then; all others run."""
    suite.write(DYING.format(before=before))
    result = suite.matrix("-n2")
    assert result.ret == suite.results.exit == 1
    result.assert_outcomes(passed=1, failed=1)
    there, back = sorted(suite.items)
    item = suite.items[there]
    assert (item.verdict, item.result, item.cell) == ("lost", "lost", there)
    assert item.coordinates == suite.cells.selected[0].coordinates
    assert item.because.startswith("worker 'gw")
    assert item.worker
    assert item.evidence == f"test_it/test_it-{there}" + ("~2" if before else "")
    record = suite.outcome(there)
    assert (record["result"], record["cell"]) == ("lost", there)
    assert record["plan"]["machine"] == "pc-q35-10.0"
    written = {path.name for path in (suite.folder / item.evidence).iterdir()}
    assert written > {"outcome.json"}
    assert set(record["evidence"].values()) == written - {"outcome.json"}
    assert suite.items[back].verdict == "passed"
    assert suite.results.not_run == []
    assert suite.partial() == []
    result.stdout.fnmatch_lines(["lost: *", "1 passed, 1 lost of 2 cells *"])
    suite.nothing_is_left()


@pytest.mark.parametrize(
    ("workers", "send"),
    [((), os.killpg), (("-n2",), os.killpg), (("-n2",), os.kill)],
    ids=["serial", "parallel", "controller-only"],
)
def test_an_interrupt(
    suite: "Suite", workers: tuple[str, ...], send: Callable[[int, int], None]
) -> None:
    suite.write(HELD)
    suite.write(NOTING, "conftest")
    session = suite.start(*workers)
    finished = suite.path / "finished"
    suite.until(
        lambda: (
            finished.exists()
            and finished.read_text().count("\n") == 2
            and (suite.path / "held").exists()
        )
    )
    send(session.pid, signal.SIGINT)
    said = session.communicate(timeout=30)[0]
    assert session.returncode == pytest.ExitCode.INTERRUPTED, said
    results = suite.results
    assert results.exit == session.returncode
    assert {item.nodeid for item in results.items} == set(finished.read_text().splitlines())
    assert {item.verdict for item in results.items} == {"passed"}
    ids = [cell.id for cell in suite.cells.selected]
    assert sorted(results.not_run) == [f"test_it.py::test_held[{cell}]" for cell in ids]
    assert "2 not run, since the run was stopped: test_held[" in said
    assert "2 passed, 2 not run" in said
    assert "Traceback" not in said
    suite.nothing_is_left()
    assert suite.partial() == []
    evidence = list(suite.folder.glob("test_it/test_held*/outcome.json"))
    assert evidence
    assert all('"interrupted"' in file.read_text() for file in evidence)


def test_an_impatient_second_interrupt_loses_no_results(
    suite: "Suite", workers: tuple[str, ...]
) -> None:
    suite.write(HELD)
    session = suite.start(*workers, "-k", "held")
    suite.until((suite.path / "held").exists)
    for _ in range(4):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session.pid, signal.SIGINT)
        time.sleep(0.03)
    session.communicate(timeout=30)
    assert suite.results.items == []
    assert len(suite.results.not_run) == 2
    suite.nothing_is_left()


def test_a_build_that_vanishes(suite: "Suite", workers: tuple[str, ...]) -> None:
    """That is no failure of QEMU's, and no known issue explains it."""
    real = builds.resolve("debian:trixie")
    binary = suite.path / "qemu-system-x86_64"
    words = " ".join(f"'{word}'" for word in real.argv)
    settings = " ".join(f"{name}='{value}'" for name, value in real.env.items())
    binary.write_text(f'#!/bin/sh\nexec env {settings} {words} "$@"\n')
    binary.chmod(0o755)
    (suite.path / "known.toml").write_text(KNOWN)
    suite.write(
        """
        import pathlib, pytest

        @pytest.fixture(autouse=True)
        def vanished():
            pathlib.Path("qemu-system-x86_64").unlink()
        """,
        "conftest",
    )
    suite.migrating()
    result = suite.run(
        *workers,
        f"--qemu-build={binary}",
        *("--qemu-matrix=smoke", "--qemu-machine=q35", "--qemu-vm=none"),
        *("--qemu-known-issues=known.toml", f"--qemu-results={suite.folder}"),
    )
    (item,) = suite.results.items
    assert (item.verdict, item.result, item.issue) == ("error", "environment", "")
    assert str(binary) in item.because
    assert result.ret == 1
    suite.nothing_is_left()


KNOWN = """
[[issue]]
name = "does-not-start"
reference = "here"
expires = 2999-01-01
result = "start-failed"
side = "source"
stage = ""
text = '.'
cells = "source=*"
"""
