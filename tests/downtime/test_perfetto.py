"""The export is what the Trace Event Format asks for, whatever was observed."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmptests import builds
from qmptests.downtime import breakdown, perfetto, sources
from qmptests.downtime.breakdown import Breakdown
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.timeline import Timeline
from qmptests.fixtures.migrating import Migration
from qmptests.fixtures.vfio import Vfio
from qmptests.outcome import Outcome, Result

#: What an event must have besides name, pid and tid, by its phase, and of which kind.
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "M": {"args": dict},
    "X": {"ts": int, "dur": int, "args": dict},
    "i": {"ts": int, "s": str, "args": dict},
    "C": {"ts": int, "args": dict},
    "s": {"ts": int, "id": int, "cat": str},
    "f": {"ts": int, "id": int, "cat": str, "bp": str},
}


def exported(moments: Iterable[Moment], made: Breakdown | None = None) -> Any:
    stream = io.StringIO()
    perfetto.write(moments, stream, made)
    return json.loads(stream.getvalue())


def check(trace: Any) -> list[dict[str, Any]]:
    """All that the format demands of the events that there are; returns them."""
    events: list[dict[str, Any]] = trace["traceEvents"]
    assert trace["displayTimeUnit"] == "ms"
    names = set()
    slices = defaultdict(list)
    flows = defaultdict(list)
    series: dict[tuple[int, str], Any] = {}
    for event in events:
        for field, kind in {"name": str, "pid": int, "tid": int, **FIELDS[event["ph"]]}.items():
            assert isinstance(event[field], kind), (field, event)
        assert event.get("ts", 0) >= 0, "Perfetto drops what was before 0"
        track = event["pid"], event["tid"]
        if event["ph"] == "M":
            names.add((event["name"], *track))
            [(key, value)] = event["args"].items()
            assert isinstance(value, {"name": str, "sort_index": int}[key])
        elif event["ph"] == "X":
            assert event["dur"] >= 0
            slices[track].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
            same = series.setdefault((event["pid"], event["name"]), event["args"].keys())
            assert same == event["args"].keys(), "chrome://tracing drops a series that comes later"
        elif event["ph"] in "sf":
            flows[event["id"]].append(event)
    for pid, tid in {(event["pid"], event["tid"]) for event in events}:
        assert ("process_name", pid, 0) in names
        assert tid == 0 or ("thread_name", pid, tid) in names
    for spans in slices.values():
        for (_, end), (begin, _) in zip(sorted(spans), sorted(spans)[1:], strict=False):
            assert end <= begin, "slices of a track follow each other"
    for begin, end in flows.values():
        assert (begin["ph"], end["ph"]) == ("s", "f")
        assert begin["name"] == end["name"]
        for event in (begin, end):
            span = slices[event["pid"], event["tid"]]
            assert any(first <= event["ts"] <= last for first, last in span), "bound to a slice"
    return events


def of(outcome: Outcome) -> list[dict[str, Any]]:
    evidence = sources.open(outcome.folder)
    made = breakdown.of(evidence)
    moments = list(Timeline(evidence).moments())
    trace = exported(moments, made)
    assert trace["otherData"]["start_us"] == moments[0].at_us
    return check(trace)


@pytest.mark.parametrize("multifd", [False, True], ids=["main-channel", "multifd"])
@pytest.mark.parametrize("spec", ["debian:trixie", "debian:trixie-backports"])
def test_a_migration_of_four_devices(
    migration: Callable[..., Migration], vfio: Vfio, spec: str, multifd: bool
) -> None:
    build = builds.resolve(spec)
    device = vfio.emulated("idle", initial="32K", stop_copy="64K")
    outcome = migration(
        source=build,
        destination=build,
        devices=[device] * 4,
        capabilities={"return-path": True, "switchover-ack": True, "multifd": multifd},
        transport="tcp",
    ).run()
    assert outcome.completed, outcome
    events = of(outcome)
    tracks = {e["args"].get("name") for e in events if e["ph"] == "M"}
    devices = {f"vf{n} {what}" for n in range(4) for what in ("state", "calls")}
    assert devices <= tracks
    assert {perfetto.CRITICAL_PATH, "source", "destination", "sections", "migration"} <= tracks
    counters = {event["name"] for event in events if event["ph"] == "C"}
    assert {f"vf{n} {what}_bytes" for n in range(4) for what in ("initial", "dirty")} <= counters
    arrows = Counter(event["name"] for event in events if event["ph"] == "f")
    assert arrows["savevm_send_switchover_start"] == 1
    assert arrows["migrate_send_rp_message"] in (1, 4), "an ack for all, or for each"
    states = [e["name"] for e in events if e["ph"] == "X" and e["name"] in ("active", "device")]
    assert states.count("active") == 2


def test_a_migration_that_failed(migration: Callable[..., Migration], vfio: Vfio) -> None:
    device = vfio.emulated("idle", when=["set-state:pre-copy+errno=EIO"])
    outcome = migration(
        devices=[device],
        destination_devices=[vfio.emulated("idle")],
        expected=Result.FAILED_DESTINATION_EXITED,
    ).run()
    assert not outcome.completed
    events = of(outcome)
    assert perfetto.CRITICAL_PATH not in {e["args"].get("name") for e in events if e["ph"] == "M"}


NAMES = [
    "savevm_send_switchover_start",
    "loadvm_process_command",
    "vmstate_downtime_save",
    "vfio_migration_set_device_state",
    "migrate_transferred",
    "MIGRATION",
    "read",
]
TEXTS = [
    "",
    "com=SWITCHOVER_START len=0",
    " (vf0) state RUNNING",
    "status=active",
    '"\\\n\u2028',
    "type=iterable idstr=ram instance_id=0 downtime=12",
    "initial_bytes=5 dirty_bytes=6",
]


#: Begins before it is told of.
SECTION = "vmstate_downtime_save", "type=iterable idstr=ram instance_id=0 downtime=12"


@given(
    st.lists(
        st.builds(
            Moment,
            st.integers(0, 1000),
            st.sampled_from(["source", "destination"]),
            st.sampled_from(Witness),
            st.sampled_from(NAMES),
            st.sampled_from(TEXTS),
            st.sampled_from(["", "vf0", "vf1"]),
            st.one_of(st.none(), st.integers(0, 500)),
        )
    )
)
@example([Moment(at, "source", Witness.TRACE, SECTION[0], SECTION[1]) for at in (5, 6)])
def test_whatever_was_observed(moments: list[Moment]) -> None:
    check(exported(moments))  # a clock may be set back
    trace = exported(sorted(moments, key=lambda moment: moment.at_us))
    check(trace)
    first = min((moment.at_us for moment in moments), default=0)
    assert trace["otherData"]["start_us"] == first
