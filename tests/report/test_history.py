"""Nights remembered: what is bad since when, and that the run folders are the truth."""

import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.report import history
from qmptests.report.history import History
from qmptests.report.runs import Run


def night(folder: Path, number: int, **verdicts: Verdict) -> Run:
    items = [
        ItemResult(
            nodeid=f"here/test_x.py::{name}",
            verdict=verdict,
            seconds=1.0,
            because="" if verdict is Verdict.PASSED else f"broken in {number}",
            downtime_ms=100 + number,
        )
        for name, verdict in verdicts.items()
    ]
    results = RunResults(started=86400.0 * number, seconds=9.0, items=items, exit=0)
    return Run(folder / f"night-{number}", results, [])


@pytest.fixture
def nights(tmp_path: Path) -> list[Run]:
    good, bad = Verdict.PASSED, Verdict.FAILED
    return [
        night(tmp_path, 1, steady=good, breaks=good, mends=bad),
        night(tmp_path, 2, steady=good, breaks=bad, mends=bad),
        night(tmp_path, 3, steady=good, breaks=Verdict.SKIPPED, mends=good),
        night(tmp_path, 4, steady=good, breaks=bad, mends=good, new=Verdict.LOST),
    ]


def remembered(file: Path, nights: list[Run]) -> History:
    known = History(file)
    for one in nights:
        known.add(one)
    return known


def test_it_tells_since_which_run_a_test_is_bad(tmp_path: Path, nights: list[Run]) -> None:
    with remembered(tmp_path / "h.sqlite", nights) as known:
        trends = {trend.name.partition("::")[2]: trend for trend in known.trends()}
        text = "\n".join(history.lines(known))
    assert {name: trend.first_bad for name, trend in trends.items()} == {
        "steady": "",
        "breaks": "night-2",
        "mends": "",
        "new": "night-4",
    }
    assert trends["breaks"].verdicts == ["passed", "failed", "failed"]
    assert trends["breaks"].because == "broken in 4"
    assert trends["steady"].downtimes_ms == [101, 102, 103, 104]
    assert "  .FF  downtime 101 -> 104 ms" in text
    assert "bad since night-2 (1970-01-0" in text
    assert ", never good before: broken in 4" in text
    assert text.endswith("4 runs, 4 tests: 2 bad now, 2 good")
    assert "steady" not in text


def test_order_of_adding_and_adding_again_change_nothing(tmp_path: Path, nights: list[Run]) -> None:
    with remembered(tmp_path / "one", nights) as one:
        expected = list(one.trends())
    with remembered(tmp_path / "two", [*reversed(nights), *nights]) as two:
        assert list(two.trends()) == expected
        assert two.runs() == 4


def test_a_run_that_was_cut_short_is_not_remembered(tmp_path: Path) -> None:
    with History(tmp_path / "h") as known, pytest.raises(InputError, match="cut short"):
        known.add(Run(tmp_path, None, []))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no database at all, but long enough to be one" * 9, "is no history"), (None, "format 99")],
)
def test_what_is_no_history_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "h"
    if content is None:
        with History(file) as known:
            known._db.execute("pragma user_version = 99")
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        History(file)


def test_the_command_needs_a_file_that_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qmptests.cli.main", "history", "show", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no history in" in done.stderr
    assert not (tmp_path / "x").exists()
