"""All logs of an attempt as one time line."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.builds import Build
from qmptests.downtime import sources
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.timeline import Timeline, merged
from qmptests.fixtures.migrating import Migration


def stream(times: list[int], size: int) -> Iterator[list[Moment]]:
    moments = [Moment(at, "source", Witness.TRACE, "x") for at in times]
    return iter([moments[n : n + size] for n in range(0, len(moments), size)])


@given(st.lists(st.lists(st.integers(0, 1000)), max_size=5), st.integers(1, 9))
def test_ordered_streams_are_one_ordered_stream(logs: list[list[int]], size: int) -> None:
    found = list(merged(stream(sorted(times), size) for times in logs))
    assert [m.at_us for batch in found for m in batch] == sorted(t for log in logs for t in log)
    assert all(found), "no list is empty"


@given(st.lists(st.lists(st.integers(0, 1000)), max_size=5), st.integers(1, 9))
def test_a_stream_whose_clock_was_set_back_loses_nothing(logs: list[list[int]], size: int) -> None:
    batches = [[sorted(log[n : n + size]) for n in range(0, len(log), size)] for log in logs]
    streams = [(stream(batch, size) for batch in some) for some in batches]
    found = list(merged(_flat(some) for some in streams))
    assert sorted(m.at_us for b in found for m in b) == sorted(t for log in logs for t in log)


def _flat(streams: Iterator[Iterator[list[Moment]]]) -> Iterator[list[Moment]]:
    for one in streams:
        yield from one


def test_streams_are_read_no_further_than_needed() -> None:
    taken = []

    def long(name: str) -> Iterator[list[Moment]]:
        for n in range(1000):
            taken.append(name)
            yield [Moment(n, name, Witness.TRACE, "x")]

    line = merged([long("a"), long("b")])
    deque((next(line) for _ in range(10)), maxlen=0)
    assert len(taken) <= 2 * 11


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for side, at in (("source", 1), ("destination", 3)):
        (tmp_path / f"{side}.trace.log").write_text(
            f"7@{at}.000000:migrate_set_state new state x\n"
        )
    return tmp_path


def test_the_destination_is_shown_on_the_sources_clock(folder: Path) -> None:
    evidence = sources.open(folder)
    line = Timeline(evidence, 2_500_000)
    assert [(m.side, m.at_us) for m in line.moments()] == [
        ("destination", 500_000),
        ("source", 1_000_000),
    ]
    assert [m.side for m in line.moments(["source"])] == ["source"]
    assert not list(line.moments(witnesses=[Witness.GUEST]))
    assert not list(line.moments(device="vf0"))


def test_an_attempt_has_its_own_moments_only(
    migration: Callable[..., Migration], destination_build: Build
) -> None:
    made = migration(source=destination_build, vm="none", cancel_at="active", retries=1)
    outcome = made.run()
    assert outcome.completed, outcome
    first, second = (sources.open(outcome.folder, n) for n in (0, 1))
    assert first.sides == {"source": "source", "destination": "destination"}
    assert second.sides == {"source": "source", "destination": "destination-2"}
    states = [
        [
            str(moment.args["new_state"])
            for moment in Timeline(evidence).moments(["source"], [Witness.TRACE])
            if moment.name == "migrate_set_state"
        ]
        for evidence in (first, second)
    ]
    assert "cancelled" in states[0]
    assert "completed" not in states[0]
    assert "completed" in states[1]
    assert "cancelled" not in states[1]
    assert any(
        m.text.strip() == "new state cancelled" for m in Timeline(second, whole=True).moments()
    )
