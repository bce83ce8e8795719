"""A matrix that is interrupted, or loses a process, tells the truth about the rest."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests.outcome import Result, folder

TESTS = "qmptests.suites.compat.test_cells"


@pytest.fixture
def matrix(start: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a matrix of some dozen cells, with its run folder in `out`."""

    def launch(*arguments: object) -> Any:
        pair = ("--source", "debian:trixie", "--destination", "debian:trixie-backports")
        cells = ("--select", "full", "--machine", "pc-q35-*")
        return start("matrix", "--quiet", *pair, *cells, "--output", "out", *arguments)

    return launch


def finished(out: Path) -> list[Path]:
    """The cells' folders that are whole."""
    return [path for path in out.glob(f"{TESTS}/*") if not path.name.endswith(folder.PARTIAL)]


def results(out: Path) -> Any:
    return json.loads((out / "results.json").read_bytes())


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGINT, 2)]
)
def test_an_interrupted_matrix_reports_what_ran(
    matrix: Callable[..., Any], number: signal.Signals, workers: int
) -> None:
    command = matrix("-n", workers)
    out = command.folder / "out"
    command.until(lambda: len(finished(out)) >= 3, "three cells")
    os.killpg(command.popen.pid, number)
    ended = command.finish()
    assert ended.status == 130
    assert ended.error_lines == ["qmptests: interrupted"]
    run = results(out)
    passed = [item["cell"] for item in run["items"]]
    assert len(passed) >= 2  # the third may not be reported yet
    assert run["not_run"]
    assert f"{len(passed)} passed, {len(run['not_run'])} not run of " in ended.out
    interrupted = {path for path in finished(out) if folder.load(path).result != "completed"}
    assert len(finished(out)) - len(interrupted) >= len(passed)
    assert {folder.load(path).result for path in interrupted} <= {Result.INTERRUPTED}


def test_a_killed_worker_loses_its_cell_and_no_other(matrix: Callable[..., Any]) -> None:
    command = matrix("-n", 2)
    out = command.folder / "out"
    command.until(lambda: len(finished(out)) >= 3, "three cells")
    workers = [
        pid
        for pid, words in command.running().items()
        if "exec(eval(sys.stdin.readline()))" in words
    ]
    os.kill(workers[0], signal.SIGKILL)
    ended = command.finish()
    assert ended.status == 1, ended
    items = results(out)["items"]
    (lost,) = (item for item in items if item["verdict"] == "lost")
    assert {item["verdict"] for item in items} == {"lost", "passed"}
    assert results(out)["not_run"] == []
    assert folder.load(out / lost["evidence"]).result == Result.LOST
    assert f"\nlost: {lost['cell']}\n" in ended.out
    assert f"{len(items) - 1} passed, 1 lost of {len(items)} cells" in ended.out
