"""A migration as pictures: nothing is lost when what is narrow is put together."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.downtime.analysis import Analysis
from qmptests.downtime.breakdown import Breakdown
from qmptests.downtime.critical import Segment
from qmptests.downtime.precopy_data import (
    Ack,
    Device,
    Interval,
    Left,
    Reinit,
    Story,
    Why,
)
from qmptests.report import picture, runs
from qmptests.report.picture import _Bar, _Scale, _thinned

NOTHING = Left(None, {})
MS = 1000


def story(*, acks: list[Ack], reinits: list[Reinit]) -> Story:
    """100 ms of precopy, of which 60 wait for an ack."""
    parts = [(0, 10, Why.SETUP), (10, 40, Why.BYTES), (40, 100, Why.ACK)]
    return Story(
        begin_us=0,
        end_us=100 * MS,
        ended="switchover",
        pending=0,
        limit_ms=300,
        mechanism="new",
        intervals=[
            Interval(a * MS, b * MS, why, ("vf<0>",) * (why is Why.ACK), NOTHING, NOTHING, None)
            for a, b, why in parts
        ],
        passes=[],
        pass_count=0,
        bandwidths=[],
        devices=[Device("vf<0>", None, None, None, 0, reinits, len(reinits))],
        acks=acks,
        notes=[],
    )


def downtime() -> Breakdown:
    """40 ms: reading and sending in turn, then a load, then 1 ms of nobody's."""
    path = [
        Segment((100 + n) * MS, (101 + n) * MS, "source", "save", "vf<0>", ("read", "send")[n % 2])
        for n in range(30)
    ]
    path.append(Segment(130 * MS, 139 * MS, "destination", "load", "vf<0>", "write"))
    path.append(Segment(139 * MS, 140 * MS, "destination", "", ""))
    return Breakdown(100 * MS, 140 * MS, path, [], [])


def analysis(run: Path, acks: list[Ack], reinits: list[Reinit]) -> Analysis:
    """A real one with another story."""
    (migration,) = runs.read(run).migrations()
    assert migration.analysis
    told = story(acks=acks, reinits=reinits)
    return msgspec.structs.replace(migration.analysis, downtime=downtime(), precopy=told)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own


def test_shares_are_all_of_the_downtime() -> None:
    found = picture.shares(downtime())
    assert [(one.number, one.what, one.ms) for one in found] == [
        ("1", "vf<0> save read", 15.0),
        ("2", "vf<0> save send", 15.0),
        ("3", "vf<0> load write", 9.0),
        ("", "unattributed", 1.0),
    ]
    assert sum(one.part for one in found) == pytest.approx(1)


def test_both_sides_are_drawn_with_acks_and_reinits(run: Path) -> None:
    acks = [
        Ack("vf<0>", "setup", 5 * MS, given_us=20 * MS),
        Ack("vf<0>", "reinit", 40 * MS, given_us=100 * MS),
        Ack("", "setup", 5 * MS),
    ]
    made = analysis(run, acks, [Reinit(40 * MS, 1 << 20)])
    root = parsed(picture.whole(made))
    classes = [one.get("class") for one in root.iter()]
    assert classes.count("asked") == 3
    assert classes.count("given") == 2
    assert classes.count("reinit") == 1
    texts = [one.text for one in root.iter("text")]
    assert {"source", "destination", "vf<0>", "all devices"} <= set(texts)
    assert "ack vf<0> 60.0 ms" in (root.get("aria-label") or "")
    titles = [one.text or "" for one in root.iter("title")]
    assert "reinit ack asked at 40.0 ms, given at 100.0 ms" in titles
    assert "setup ack asked at 5.0 ms, not given" in titles
    assert any(title.startswith("VM stopped 40.0 ms") for title in titles)


def test_an_endless_storm_stays_small(run: Path) -> None:
    reinits = [Reinit(n * MS // 10, 1) for n in range(1000)]
    acks = [Ack("vf<0>", "reinit", n * MS // 10, given_us=n * MS // 10 + 50) for n in range(1000)]
    assert len(picture.whole(analysis(run, acks, reinits))) < 40_000


def test_of_a_migration_without_a_downtime_precopy_is_drawn(run: Path) -> None:
    (migration,) = runs.read(run).migrations()
    assert migration.analysis
    parsed(picture.whole(migration.analysis))
    migration.analysis.downtime = None
    root = parsed(picture.whole(migration.analysis))
    assert "downtime" not in (root.get("aria-label") or "")


@given(st.floats(0.02, 1e7))
def test_ticks_are_round_and_neither_few_nor_many(ms: float) -> None:
    ticks = list(_Scale(0, ms * 1e3).ticks())
    assert 2 <= len(ticks) <= 11
    places = [place for place, _ in ticks]
    assert places == sorted(places)
    assert all(len(label.partition("e")[0]) <= 6 for _, label in ticks)


bars = st.lists(st.tuples(st.integers(1, 5000), st.sampled_from("abc")), min_size=1, max_size=400)


@given(bars)
def test_what_is_put_together_keeps_its_lengths(parts: list[tuple[int, str]]) -> None:
    made, at = [], 0
    for length, name in parts:
        made.append(_Bar(at, at + length, name, name))
        at += length
    found = list(_thinned(_Scale(0, at), made))
    assert found[0].begin == 0
    assert found[-1].end == pytest.approx(at)
    assert all(one.end == pytest.approx(other.begin) for one, other in pairwise(found))
    for name in "abc":
        drawn = sum(one.end - one.begin for one in found if one.label == name)
        assert drawn == pytest.approx(sum(length for length, kind in parts if kind == name))
    assert len(found) <= 300
