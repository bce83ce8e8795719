"""Run-length storage: nothing is lost that matters, and memory does not grow."""

from hypothesis import given
from hypothesis import strategies as st

from qmptests.qmp.events import EventLog
from qmptests.qmp.runs import KEEP, RunLength


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3 * KEEP)), max_size=20))
def test_every_event_is_counted_once_and_in_order(bursts: list[tuple[str, int]]) -> None:
    names = [name for name, count in bursts for _ in range(count)]
    runs = RunLength()
    entries = []
    for number, name in enumerate(names):
        run, is_new = runs.add(name, {"n": number}, float(number))
        if is_new:
            entries.append(run)
        assert run is entries[-1]
    assert [e.name for e in entries for _ in range(e.count)] == names
    assert [e.data["n"] for e in entries] == [e.last_number for e in entries]
    assert all(e.first == e.last_number - e.count + 1 for e in entries)


def test_short_runs_are_kept_one_by_one() -> None:
    runs = RunLength()
    assert all(runs.add("MIGRATION", {}, 0.0)[1] for _ in range(KEEP))


def test_a_million_events_cost_a_bounded_number_of_entries() -> None:
    log = EventLog()
    for number in range(1_000_000):
        log.add("MIGRATION_PASS", {"pass": number}, float(number))
    assert log.counts["MIGRATION_PASS"] == 1_000_000
    assert len(list(log)) == KEEP + 1


def test_alternating_floods_are_bounded_too() -> None:
    log = EventLog()
    for number in range(100_000):
        log.add("AB"[number % 2], {}, 0.0)
    assert len(list(log)) <= 4096
    assert log.counts.total() == 100_000
