"""Nights remembered: what is bad since when, and that the run folders are the truth."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.report import history, page_of_nights
from qmptests.report.history import History, Night, Trend
from qmptests.report.runs import Run
from tests.report.markup import read


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
    first = {name: trend.first_bad.run for name, trend in trends.items() if trend.first_bad}
    assert first == {"breaks": "night-2", "new": "night-4"}
    assert [night.verdict for night in trends["breaks"].nights] == ["passed", "failed", "failed"]
    assert trends["breaks"].nights[-1].because == "broken in 4"
    assert [night.downtime_ms for night in trends["steady"].nights] == [101, 102, 103, 104]
    assert "  .FF  downtime 101.0 -> 104.0 ms" in text
    assert "bad since night-2 (1970-01-0" in text
    assert ", never good before: broken in 4" in text
    assert text.endswith("4 runs, 4 tests: 2 bad now, 2 good, 0 slower than they were")
    assert "steady" not in text


def test_a_test_that_vanished_is_not_good_without_a_word(tmp_path: Path) -> None:
    good = Verdict.PASSED
    nights = [
        night(tmp_path, 1, steady=good, skipped=good, vanishes=good),
        night(tmp_path, 2, steady=good, skipped=Verdict.SKIPPED),
    ]
    with remembered(tmp_path / "h.sqlite", nights) as known:
        (line,) = history.lines(known)
    assert line.endswith(
        "0 bad now, 3 good, 0 slower than they were; 2 did not run in the last one"
    )


def test_order_of_adding_and_adding_again_change_nothing(tmp_path: Path, nights: list[Run]) -> None:
    with remembered(tmp_path / "one", nights) as one:
        expected = list(one.trends())
    with remembered(tmp_path / "two", [*reversed(nights), *nights]) as two:
        assert list(two.trends()) == expected
        assert two.runs() == 4


def slow_since(folder: Path, number: int, since: int, by: float) -> Run:
    run = night(folder, number, steady=Verdict.PASSED, slow=Verdict.PASSED)
    assert run.results
    source = random.Random(number)
    for item, factor in zip(run.results.items, (1.0, by if number >= since else 1.0), strict=True):
        item.downtime_ms = round(factor * source.gauss(300, 6))
    return run


@pytest.mark.parametrize(("nights_after", "found"), [(10, "night-13"), (2, "")])
def test_it_tells_since_which_run_a_test_is_slower(
    tmp_path: Path, nights_after: int, found: str
) -> None:
    """Two nights are too few to tell."""
    runs = [slow_since(tmp_path, n, 13, 1.2) for n in range(1, 13 + nights_after)]
    with remembered(tmp_path / "h", runs) as known:
        shifts = {t.name.partition("::")[2]: t.shift() for t in known.trends()}
        text = "\n".join(history.lines(known))
    assert shifts["steady"] is None
    shift = shifts["slow"]
    assert (shift.run if shift else "") == found
    if shift:
        assert shift.slower
        assert "slower since night-13: downtime 3" in text
        assert "1 slower than they were" in text


def test_what_has_not_changed_is_rarely_called_slower(tmp_path: Path) -> None:
    source = random.Random(7)
    shifts = []
    for number in range(100):
        nights = [
            Night(f"n{n}", float(n), "passed", "", 300 + source.expovariate(1 / 20))
            for n in range(24)
        ]
        shifts.append(Trend(str(number), nights).shift())
    assert sum(shift is not None for shift in shifts) <= 5


def test_it_is_a_page(tmp_path: Path, nights: list[Run]) -> None:
    file = tmp_path / "h.html"
    with remembered(tmp_path / "nights.sqlite", nights) as known:
        page_of_nights.write(known, file)
    text, _ = read(file)
    assert '<h1 class="bad">Not fine: nights.sqlite</h1>' in text
    assert "here/" not in text
    assert text.count("<polyline") == 4
    assert text.count("✗</text>") == 5
    assert text.count('data-chart="') == 2
    assert "test_x.py::breaks: bad since night-2" in text


def test_an_empty_history_is_a_page(tmp_path: Path) -> None:
    with History(tmp_path / "h") as known:
        page_of_nights.write(known, tmp_path / "x.html")
    text, _ = read(tmp_path / "x.html")
    assert "0 runs, 0 tests" in text


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
    done = command("show", str(tmp_path / "x"))
    assert done.returncode == 2
    assert "no history in" in done.stderr
    assert not (tmp_path / "x").exists()


def command(*args: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "qmptests.cli.main", "history", *args]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_made_again_of_the_run_folders(run: Path, tmp_path: Path) -> None:
    """Also when it is of an older format; a folder that is gone is a note."""
    file, second = tmp_path / "h", tmp_path / "second"
    shutil.copytree(run, second)
    assert command("add", str(file), str(run), str(second)).returncode == 0
    with History(file) as known:
        before = list(known.trends())
    with sqlite3.connect(file) as db:
        db.execute("drop table items")
        db.execute("drop table figures")
        db.execute("pragma user_version = 1")
    db.close()
    assert "qmptests history rebuild" in command("show", str(file)).stderr
    assert command("rebuild", str(file)).returncode == 0
    with History(file) as known:
        assert list(known.trends()) == before
    shutil.rmtree(second)
    done = command("rebuild", str(file))
    assert done.returncode == 0
    assert f"note: {second} is no run folder" in done.stderr
    with History(file) as known:
        assert known.runs() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h"]


def test_a_history_is_not_lost_with_its_folders(tmp_path: Path, nights: list[Run]) -> None:
    remembered(tmp_path / "h", nights).__exit__()
    done = command("rebuild", str(tmp_path / "h"))
    assert done.returncode == 2
    assert "none of the run folders that" in done.stderr
    with History(tmp_path / "h") as known:
        assert known.runs() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["h"]


def test_its_page_is_written_by_the_command(run: Path, tmp_path: Path) -> None:
    command("add", str(tmp_path / "h"), str(run))
    done = command("show", str(tmp_path / "h"), "--output", str(tmp_path / "h.html"))
    assert (done.returncode, done.stdout) == (0, "")
    assert '<h1 class="good">Fine: h</h1>' in read(tmp_path / "h.html")[0]


@pytest.mark.parametrize(
    "statement",
    [
        "update runs set started = 9e999",
        "update runs set folder = x'ff' where id = 1",
        "update items set verdict = 'good'",
        "update figures set ms = 'soon' where figure = 'downtime'",
        "drop table items",
        "drop table items; create view items as with recursive c(run, name, verdict, because) as"
        " (select 1, 'a', 'passed', '' union all select * from c) select * from c",
    ],
)
def test_values_that_can_not_be_are_one_line(
    nights: list[Run], tmp_path: Path, statement: str
) -> None:
    file = tmp_path / "h"
    remembered(file, nights).__exit__()
    with contextlib.closing(sqlite3.connect(file)) as db, contextlib.suppress(sqlite3.Error):
        db.executescript(statement)
    with pytest.raises(InputError, match=r"damaged|views"), History(file) as known:
        list(known.trends())


def test_a_history_that_can_not_be_made_is_not_left_half_made(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        History(tmp_path / "nowhere" / "h")
    (tmp_path / "h").mkdir()
    with pytest.raises(InputError, match="no ordinary file"):
        History(tmp_path / "h")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_users_link_is_not_followed(tmp_path: Path) -> None:
    """Whether there is something behind it or not."""
    link, other = tmp_path / "link", tmp_path / "other"
    with History(other):
        pass
    link.symlink_to(other)
    with History(link):
        pass
    os.chown(link, 65534, 65534, follow_symlinks=False)
    with pytest.raises(InputError, match="is a link of user 65534's"):
        History(link)
