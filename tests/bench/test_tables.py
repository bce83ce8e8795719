"""The bench's tables: nothing is wider than a mail, and what is missing is said."""

import json
from collections.abc import Iterable

import pytest

from qmptests import builds
from qmptests.bench import plot, prediction, spread, sweep, tables, variants
from qmptests.bench.sample import AckTimes, ReinitTimes, Sample
from qmptests.bench.setting import Setting
from qmptests.bench.sweep import Row


def sample(downtime: float | None = 1335.0, **fields: object) -> Sample:
    busy = None if downtime is None else downtime - 815
    result = "timed-out" if downtime is None else "completed"
    total = 8000 if downtime is None else 4000
    known = Sample(folder="x-01", result=result, downtime_ms=downtime, busy_ms=busy, total_ms=total)
    for name, value in fields.items():
        setattr(known, name, value)
    return known


def fits(lines: Iterable[str]) -> str:
    text = list(lines)
    assert text
    assert all(len(line) <= 72 for line in text), max(text, key=len)
    return "\n".join(text)


def row(with_ms: float | None, total: float | None, without: float | None = 2000.0) -> Row:
    return Row(
        axis=sweep.COUNT,
        value="1",
        with_ms=with_ms,
        without_ms=without,
        total_with_ms=total,
        total_without_ms=3000.0,
        waiting_ms=None,
        reinits=1,
    )


@pytest.mark.parametrize(
    ("one", "hurts"),
    [
        (row(1000, 3900), False),
        (row(1000, 4100), False),
        (row(1000, 4101), True),
        (row(2100, 3100), False),
        (row(2100, 3101), True),
        (row(None, None), True),
        (row(1000, 3900, without=None), False),
    ],
)
def test_a_reinit_hurts_if_it_costs_more_total_time_than_it_saves_downtime(
    one: Row, hurts: bool
) -> None:
    assert one.hurts is hurts
    assert ("  hurts" in fits(tables.swept([one])).splitlines()[2]) is hurts


def test_a_comparison_has_medians_and_how_far_the_furthest_is_off() -> None:
    found = {variant.name: [sample(), sample(1400.0)] for variant in variants.ALL}
    found["reinit"] = [sample(1000.0), sample(1020.0), sample(1050.0)]
    text = fits(tables.comparison(found, variants.ALL))
    assert "reinit                1020  2.9%   205   815" in text
    assert "series, without       2352        1600   752" in text
    assert "against no-infov2: downtime -25%" in fits(tables.bargain(found, variants.ALL))


def test_what_never_switched_over_is_no_figure() -> None:
    found = {variant.name: [sample(None)] for variant in variants.ALL}
    line = fits(tables.comparison(found, variants.ALL)).splitlines()[2]
    assert line.split() == ["reinit", "-", "-", "-", "-", "0", "8000", "-"]
    assert "against" not in fits(tables.bargain(found, variants.ALL))


def test_the_reviewers_questions_are_answered() -> None:
    one = sample(
        reinit_count=1,
        reinits=[ReinitTimes(539.0, 816 << 20, 800 << 20)],
        ack_count=2,
        acks=[AckTimes("vf0", "setup", 8.0, 532.0), AckTimes("vf0", "reinit", 539.0, None)],
        moved_bytes=800 << 20,
    )
    text = fits(tables.answers({variants.WITH.name: [one]}))
    assert "1 REINITs, 2 acks" in text
    assert "800 MiB moved" in text
    assert "REINIT at 539 ms: 816 MiB initial, 800 MiB of it new" in text
    assert "vf0: setup ack asked at 8 ms, took 532 ms" in text
    assert "vf0: reinit ack asked at 539 ms, never given" in text


def test_predictions_stand_beside_their_errors() -> None:
    point = next(prediction.points())
    told = [(point, False, 1100.0), (point, True, None)]
    assert "measured" not in fits(tables.foretold(told, {}))
    found = {tables.side(point, False): [sample(1000.0)], tables.side(point, True): [sample(None)]}
    text = fits(tables.foretold(told, found))
    assert "+10.0%" in text
    assert "the largest error is 10.0%, of 1 predictions" in text


def test_all_inputs_are_printed() -> None:
    build = builds.resolve("debian:trixie-backports")
    text = fits(tables.inputs(Setting(build, build, multifd=True)))
    for word in ("8G RAM", "816M once 32M", "208M (fitted)", "795 MB/s", "2458 MiB", "multifd"):
        assert word in text


def test_a_spread_leaves_out_what_there_is_not() -> None:
    assert spread.of([None]) == (None, None, None)
    assert spread.of([None]).off is None
    assert spread.of([3.0, None, 1.0, 4.0]) == (3.0, 1.0, 4.0)
    assert spread.of([3.0, 1.0, 4.0]).off == pytest.approx(2 / 3)


def test_the_table_as_a_chart_has_each_sides_whole_downtime() -> None:
    parts = {"stop": 100.0, "read": 300.0, "load": 0.1}
    one = Sample(
        folder="x", result="completed", downtime_ms=1000.0, busy_ms=400.1, busy_parts_ms=parts
    )
    chart = plot.table({"reinit": [one], "none": [Sample(folder="y", result="failed")]})
    drawn = {trace["name"]: trace for trace in json.loads(chart.figure)["data"]}
    assert "busy: load" not in drawn
    wholes = [0.0] * 4
    for trace in drawn.values():
        wholes = [a + b for a, b in zip(wholes, trace["x"], strict=True)]
    assert wholes == pytest.approx([1000, 0, 1335, 2352], abs=0.2)
    assert chart.says == "downtimes: reinit: 1000 ms, none: 0 ms"
