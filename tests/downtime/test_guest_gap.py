"""The guest's downtime is the gap in its reports, less its own intervals, and as sure as those."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.downtime import clocks, guest_gap, sources
from qmptests.downtime.guest_gap import Gap, Report, gap
from qmptests.fixtures.migrating import Migration
from qmptests.vm import Definition

Migrate = Callable[..., Migration]

INTERVAL_US = 10_000


@given(
    st.integers(0, 10**7),
    st.lists(st.integers(0, 50_000), min_size=1, max_size=11),
    st.integers(0, 50_000),
    st.integers(1, 5),
)
def test_the_gap_is_wrong_by_no_more_than_reports_are_late(
    downtime: int, late: list[int], late_there: int, step: int
) -> None:
    """`step`: reports that were lost in between make no difference."""
    before = [Report(n * INTERVAL_US + us, n) for n, us in enumerate(late)]
    counter = len(before) - 1 + step
    first = Report(counter * INTERVAL_US + downtime + late_there, counter)
    us, spread = gap(before, first, INTERVAL_US)
    assert us - downtime == late_there - late[-1]
    if len(before) == 1:
        assert spread is None
    else:
        assert spread is not None
        assert spread <= max(late)
        assert (spread == 0) == (len(set(late)) == 1)


@pytest.mark.parametrize("interval", [5, 20])
def test_the_interval_is_the_definitions(migration: Migrate, interval: int) -> None:
    definition = Definition(guest={"kind": "dirtier", "report_interval": interval})
    outcome = migration(vm=definition).run()
    assert outcome.completed, outcome
    evidence = sources.open(outcome.folder)
    found = guest_gap.measure(evidence, clocks.measure(evidence))
    last, first = (
        [
            json.loads(line)
            for line in (outcome.folder / f"{side}.guest.jsonl").read_text().splitlines()
        ]
        for side in ("source", "destination")
    )
    passed = (first[0]["reported"] - last[-1]["reported"]) * interval * 1000
    assert found.us == first[0]["at"] - last[-1]["at"] - passed
    assert found.problem == ""


def test_a_guest_that_began_anew_has_no_gap(migration: Migrate) -> None:
    outcome = migration().run()
    log = outcome.folder / "destination.guest.jsonl"
    line = json.loads(log.read_text().splitlines()[0])
    log.write_text(json.dumps(line | {"reported": 0}) + "\n")
    evidence = sources.open(outcome.folder)
    found = guest_gap.measure(evidence, clocks.measure(evidence))
    assert found == Gap(problem="the guest's counter does not go on where it was on the source")
