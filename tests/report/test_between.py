"""Runs of real migrations held against each other, and folders that are no whole run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.report import between, page_of_two, runs
from qmptests.report.effect import Verdict
from tests.report.markup import read


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
    found = between.compare(side, side)
    assert {row.effect.verdict for row in found.rows} == {Verdict.SAME}
    assert list(between.lines(found)) == [
        "3 figures of 1 cells: 0 changed, 3 not changed, 0 can't be told",
        "not worse: B, held against A",
    ]


def test_what_completed_on_one_side_alone_is_told() -> None:
    figures = {"downtime": [1.0] * 5}
    a = dict.fromkeys(("both", "failed-in-b", "missing-in-b"), figures)
    found = between.compare(a, dict.fromkeys(("both", "new"), figures))
    told = list(between.lines(found))
    assert "not compared, since it completed in A alone: failed-in-b and 1 more" in told
    assert "not compared, since it completed in B alone: new" in told
    assert (found.alone_in_a, found.alone_in_b) == (["failed-in-b", "missing-in-b"], ["new"])


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
    (cell,) = json.loads((tmp_path / "x.json").read_bytes())["cells"]
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
    assert "1 runs, 1 tests: 0 bad now, 1 good" in done.stdout
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


def cells(count: int, factor: float) -> dict[str, dict[str, list[float]]]:
    return {f"cell{n}": {"downtime": [factor * (100 + n % 7)]} for n in range(count)}


def test_many_cells_of_one_repeat_are_told_together() -> None:
    found = between.compare(cells(30, 1.0), cells(30, 1.2))
    assert (found.worse, found.told, found.word) == (True, True, "Worse")
    (together,) = found.together
    assert together.effect.part == pytest.approx(0.2)
    assert "all 30 cells together" in "\n".join(between.lines(found))
    assert between.compare(cells(30, 1.0), cells(30, 1.0)).word == "Not worse"
    assert between.compare(cells(3, 1.0), cells(3, 1.2)).word == "Can't tell"


def test_the_exit_status_is_one_that_git_bisect_takes(run: Path, tmp_path: Path) -> None:
    """One repeat of one cell tells nothing."""
    assert qmptests("report", str(run), "--compare", str(run)).returncode == 0
    done = qmptests("report", str(run), "--compare", str(run), "--bisect")
    assert done.returncode == 125
    assert "can't tell: B, held against A" in done.stdout
    assert qmptests("report", str(run), "--compare", str(tmp_path), "--bisect").returncode == 128
    many = [str(run)] * 5 + [word for _ in range(5) for word in ("--compare", str(run))]
    assert qmptests("report", *many, "--bisect").returncode == 0


def test_only_the_figures_that_are_asked_for_count(run: Path) -> None:
    done = qmptests("report", str(run), "--compare", str(run), "--figure", "down*")
    assert "1 figures of 1 cells" in done.stdout
    done = qmptests("report", str(run), "--compare", str(run), "--figure", "none such")
    assert done.returncode == 2
    assert "with the figures that are asked for" in done.stderr


def test_options_of_a_comparison_need_one(run: Path) -> None:
    for option in (["--bisect"], ["--figure", "x"], [str(run)]):
        done = qmptests("report", str(run), *option)
        assert done.returncode in (2, 128)
        assert "go with --compare" in done.stderr


def test_a_comparison_is_a_page(run: Path, tmp_path: Path) -> None:
    found = between.compare(cells(30, 1.0), cells(30, 1.2))
    page_of_two.write(found, "old", "new & <b>", tmp_path / "x.html")
    text, _ = read(tmp_path / "x.html")
    assert '<h1 class="bad">Worse: new &amp; &lt;b&gt;</h1>' in text
    assert text.count('data-chart="') == 1
    assert "cell29" in text
    assert 'id="plotly"' in text
