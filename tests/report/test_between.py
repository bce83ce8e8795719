"""Runs of real migrations held against each other, and folders that are no whole run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.report import between, runs
from qmptests.report.effect import Verdict


def qmptests(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qmptests.cli.main", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_run_is_read_back_with_its_figures(run: Path) -> None:
    read = runs.read(run)
    (migration,) = read.migrations()
    assert read.problems == []
    figures = migration.figures()
    assert set(figures) == {"downtime", "precopy", "total"}
    assert all(value > 0 for value in figures.values())
    assert migration.name.startswith("test_cells.py::test_migrates[s")


def test_a_run_against_itself_often_enough_is_the_same(run: Path) -> None:
    side = between.repeats([runs.read(run)] * 5)
    (cell,) = between.compare(side, side)
    assert {row.effect.verdict for row in cell.rows} == {Verdict.SAME}
    (line,) = between.lines([cell])
    assert line == "3 figures of 1 cells: 0 changed, 3 not changed, 0 can't be told"


def test_a_figure_that_got_worse_is_told_and_is_the_exit_status(run: Path, tmp_path: Path) -> None:
    """QEMU's own figure is changed in the evidence's copy: this is about the comparison."""
    slow = tmp_path / "slow"
    shutil.copytree(run, slow)
    (file,) = slow.glob("*/*/outcome.json")
    outcome = json.loads(file.read_bytes())
    outcome["attempts"][-1]["times"]["total_ms"] *= 2
    file.write_text(json.dumps(outcome))
    more = [word for _ in range(5) for word in ("--compare", str(slow))]
    done = qmptests("report", *[str(run)] * 5, *more, "--json", str(tmp_path / "x.json"))
    assert done.returncode == 1, done.stderr
    assert "worse" in done.stdout
    assert "3 figures of 1 cells: 1 changed" in done.stdout
    (cell,) = json.loads((tmp_path / "x.json").read_bytes())
    assert [row["name"] for row in cell["rows"]] == ["downtime", "precopy", "total"]
    done = qmptests("report", *[str(slow)] * 5, *[w.replace(str(slow), str(run)) for w in more])
    assert done.returncode == 0
    assert "better" in done.stdout


def test_a_run_is_remembered(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "nights.sqlite"
    done = qmptests("history", "add", str(file), str(run))
    assert (done.returncode, done.stdout) == (0, "run: 1 tests\n")
    done = qmptests("history", "show", str(file), "--all")
    assert done.returncode == 0
    assert done.stdout.endswith("1 runs, 1 tests: 0 bad now, 1 good\n")
    assert "  .  downtime" in done.stdout


def test_a_run_that_was_cut_short_is_compared_and_says_so(run: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(run, short)
    (short / "results.json").unlink()
    done = qmptests("report", str(short), "--compare", str(short))
    assert done.returncode == 0, done.stderr
    assert "the run was cut short" in done.stderr
    assert "3 can't be told" in done.stdout


def test_an_outcome_of_another_schema_is_a_note(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (file,) = other.glob("*/*/outcome.json")
    file.write_text('{"schema": 99}')
    read = runs.read(other)
    assert list(read.migrations()) == []
    (problem,) = read.problems
    assert "has schema 99" in problem


def test_what_is_no_run_is_one_line(run: Path, tmp_path: Path) -> None:
    for folder, words in ((tmp_path, "no results in"), (tmp_path / "none", "no such folder")):
        with pytest.raises(InputError, match=words):
            runs.read(folder)
    done = qmptests("report", str(run), "--compare", str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "is no run folder" in line


def test_runs_without_a_common_cell_are_refused(run: Path) -> None:
    side = between.repeats([runs.read(run)])
    with pytest.raises(InputError, match="no migration in common"):
        between.compare(side, {"another": {"downtime": [1.0]}})
