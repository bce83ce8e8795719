"""A matrix while it runs: what is counted, and how often something is said."""

import io
import time
from pathlib import Path

import pytest

from qmptests.cli import live
from qmptests.matrix.cells import Cell
from qmptests.matrix.results import ItemResult, Verdict
from qmptests.matrix.store import Matrix

PAIRS = [("1", "2"), ("2", "1"), ("1", "3")]


def matrix_of(each: int) -> Matrix:
    cells = [
        Cell(
            id=f"s{source}-d{to}-{number}",
            coordinates={"source": source, "destination": to},
            selected=True,
        )
        for source, to in PAIRS
        for number in range(each)
    ]
    return Matrix(
        select="smoke", accelerator="tcg", builds={}, vms={}, devices={}, capabilities={},
        cells=cells,
    )  # fmt: skip


def results_of(matrix: Matrix, verdict: Verdict = Verdict.PASSED) -> list[ItemResult]:
    return [
        ItemResult(
            nodeid=c.id, verdict=verdict, seconds=1, cell=c.id, coordinates=c.coordinates,
            because="QEMU\nsaid no",
        )
        for c in matrix.selected
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min"), (7380, "2:03 h")],
)
def test_a_duration_is_as_fine_as_it_needs_to_be(seconds: float, said: str) -> None:
    assert live.duration(seconds) == said


def test_the_time_left_follows_from_the_rate_after_a_few_items() -> None:
    matrix = matrix_of(10)
    tally = live.Tally(matrix, began=100.0)
    tally.add(results_of(matrix)[0])
    assert tally.pace(101.0) == "1 s elapsed"
    for item in results_of(matrix)[1:10]:
        tally.add(item)
    assert tally.pace(110.0) == "10 s elapsed, 60 cells/min, 20 s left"


def test_each_pair_knows_what_it_has_and_what_is_left() -> None:
    matrix = matrix_of(4)
    tally = live.Tally(matrix, began=0.0)
    for item in results_of(matrix, Verdict.FAILED)[:6]:
        tally.add(item)
    assert tally.left_of == {("1", "2"): 0, ("2", "1"): 2, ("1", "3"): 4}
    assert tally.counts_of["1", "2"][Verdict.FAILED] == 4
    assert tally.words() == "6 failed"
    assert tally.failure == "failed: s2-d1-1: QEMU said no"


def test_a_log_gets_each_failure_at_once_and_little_else() -> None:
    matrix = matrix_of(100)
    log = io.StringIO()
    tally = live.Tally(matrix, time.monotonic())
    lines = live._Lines(log, tally, Path("out"))
    run = results_of(matrix)
    run[7] = results_of(matrix, Verdict.LOST)[7]
    for item in run:
        tally.add(item)
        lines.update(item)
    assert log.getvalue().splitlines() == [
        "300 cells; evidence: out",
        "lost: s1-d2-7: QEMU said no",
    ]


@pytest.mark.parametrize(("ago", "done", "says"), [(6, 29, 0), (6, 30, 1), (4, 30, 0), (60, 90, 1)])
def test_a_log_gets_a_line_after_five_seconds_and_a_tenth_of_the_run(
    ago: float, done: int, says: int
) -> None:
    matrix = matrix_of(100)
    log = io.StringIO()
    tally = live.Tally(matrix, time.monotonic())
    lines = live._Lines(log, tally, Path("out"))
    run = results_of(matrix)[:done]
    for item in run:
        tally.add(item)
    lines._said_at -= ago
    lines.update(run[-1])
    said = log.getvalue().splitlines()[1:]
    assert len(said) == says
    assert all(line.startswith(f"{done} of 300: {done} passed; ") for line in said)


def test_a_reader_that_went_away_is_no_failure() -> None:
    log = io.StringIO()
    lines = live._Lines(log, live.Tally(matrix_of(1), 0.0), Path("out"))

    def gone(_: str) -> int:
        raise BrokenPipeError

    log.write = gone  # type: ignore[method-assign]
    lines._say("anything")


def test_the_table_of_more_pairs_than_fit_keeps_those_that_tell_most(tmp_path: Path) -> None:
    matrix = matrix_of(2)
    tally = live.Tally(matrix, 0.0)
    run = results_of(matrix)
    bad = results_of(matrix, Verdict.FAILED)
    with (tmp_path / "screen").open("w") as screen:
        table = live._Table(screen, tally, Path("out"))
        try:
            assert table._most_telling(3) == PAIRS
            tally.add(run[0])
            tally.add(run[1])  # the first pair is finished, and was good
            tally.add(run[2])  # the second one is begun
            assert table._most_telling(2) == [PAIRS[1]]
            tally.add(bad[4])
            assert table._most_telling(2) == [PAIRS[2]]
            table._console.print(table._render())
        finally:
            table.close()
    shown = (tmp_path / "screen").read_text()
    assert "1 -> 2       2" in shown
    assert "4 of 6: 3 passed, 1 failed; " in shown
    assert "failed: s1-d3-0: QEMU said no" in shown


ODD = "\x1b]0;x\x07\x9b2J\u202e[red]x[/red]:smile:"


@pytest.mark.parametrize("display", [live._Lines, live._Table])
def test_names_and_reasons_steer_nothing(display: type[live._Lines | live._Table]) -> None:
    matrix = matrix_of(1)
    for cell in matrix.selected:
        cell.coordinates["source"] = ODD
    tally = live.Tally(matrix, time.monotonic())
    stream = io.StringIO()
    shown = display(stream, tally, Path(ODD))
    item = results_of(matrix, Verdict.FAILED)[0]
    item.because = ODD
    tally.add(item)
    shown.update(item)
    if isinstance(shown, live._Table):
        shown._console.print(shown._render(), width=400)
    shown.close()
    said = stream.getvalue()
    assert r"\x1b]0;x\x07\x9b2J\u202e[red]x[/red]:smile:" in said
    assert all(c.isprintable() or c == "\n" for c in said), said
