"""A matrix that is interrupted, or loses a process, tells the truth about the rest."""

import json
import os
import pty
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests.outcome import Result, folder

PAIR = ("--source", "debian:trixie", "--destination", "debian:trixie-backports")
CELLS = (*PAIR, "--select", "full", "--machine", "pc-q35-*")
TESTS = "qmptests.suites.compat.test_cells"


@pytest.fixture
def matrix(start: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a matrix of some dozen cells, with its run folder in `out`."""

    def launch(*arguments: object) -> Any:
        return start("matrix", "--quiet", *CELLS, "--output", "out", *arguments)

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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_matrix_leaves_nothing_but_evidence(
    matrix: Callable[..., Any], workers: int
) -> None:
    """At first, when pytest has just begun, and later on; `finish` looks for what is left."""
    for cells in (0, 1):
        command = matrix("-n", workers)
        out = command.folder / "out"
        command.until((out / "cells.json").exists, "the run folder")
        command.until(lambda: len(finished(out)) >= cells, "a cell")  # noqa: B023
        assert command.leftovers()
        command.popen.kill()
        assert command.finish().status == -signal.SIGKILL
        assert (out / "pytest.log").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_matrix_whose_terminal_is_closed_is_interrupted(
    start: Callable[..., Any], workers: int
) -> None:
    command, terminal = in_a_terminal(start, "matrix", *CELLS, "--output", "out", "-n", workers)
    out = command.folder / "out"
    command.until(lambda: len(finished(out)) >= 2, "two cells")
    os.close(terminal)
    assert command.finish().status == 130
    assert results(out)["not_run"]
    assert {folder.load(path).result for path in finished(out)} <= {
        Result.INTERRUPTED,
        Result.COMPLETED,
    }


def test_a_migration_whose_terminal_is_closed_is_interrupted(start: Callable[..., Any]) -> None:
    command, terminal = in_a_terminal(
        start, "migrate", *PAIR, "--parameter", "max-bandwidth=1M", "--output", "out"
    )
    command.until(lambda: command.find("source"), "the source")
    os.close(terminal)
    assert command.finish().status == 130
    assert folder.load(command.folder / "out").result is Result.INTERRUPTED


def test_under_nohup_a_closed_terminal_is_no_interrupt(start: Callable[..., Any]) -> None:
    command, terminal = in_a_terminal(
        start, "migrate", *PAIR, "--output", "out", wrapper=("nohup",)
    )
    command.until(lambda: command.find("source"), "the source")
    os.close(terminal)
    assert command.finish().status == 0
    assert folder.load(command.folder / "out").result is Result.COMPLETED


#: Has standard input as the terminal of its session, and becomes what its arguments say.
CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def in_a_terminal(
    start: Callable[..., Any], *arguments: object, wrapper: tuple[str, ...] = ()
) -> tuple[Any, int]:
    """A command that a terminal controls, and the end by which that is closed."""
    ours, theirs = pty.openpty()
    words = (sys.executable, "-c", CONTROLLED, *wrapper)
    command = start(*arguments, terminal=theirs, wrapper=words)
    os.close(theirs)
    return command, ours


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
