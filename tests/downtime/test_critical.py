"""The critical path: each instant has one owner, whatever the activities are."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.downtime import critical
from qmptests.downtime.critical import CONFIG, READ, SEND, UNATTRIBUTED, WRITE, Segment
from qmptests.downtime.sources import DESTINATION, SOURCE
from qmptests.downtime.work import Activity, Step, Work

DEVICES = ("vf0", "vf1", "vf2")
SECTIONS = (*DEVICES, "ram")


def lane(step: Step, *spans: tuple[int, int, str]) -> list[Activity]:
    return [Activity(begin, end, step, owner, owner) for begin, end, owner in spans]


def work(
    main: list[Activity],
    lanes: dict[str, Activity] | None = None,
    calls: dict[str, list[Activity]] | None = None,
    config: list[Activity] | None = None,
) -> Work:
    return Work(main, lanes or {}, calls or {}, config or [], {})


def call(begin: int, end: int, device: str, what: str) -> Activity:
    return Activity(begin, end, Step.SAVE if what == READ else Step.LOAD, device, what)


def told(path: list[Segment]) -> list[tuple[int, int, str, str, str]]:
    return [(s.begin_us, s.end_us, s.side[0], s.owner, s.what) for s in path]


def test_a_destination_that_waits_hands_on_to_the_source() -> None:
    source = work(lane(Step.SAVE, (10, 40, "ram"), (40, 90, "vf0")))
    destination = work(
        [*lane(Step.LOAD, (12, 42, "ram"), (45, 95, "vf0")), *lane(Step.START, (95, 100, "vf0"))]
    )
    assert told(critical.path(source, destination, 0, 100)) == [
        (0, 10, "s", UNATTRIBUTED, ""),
        (10, 40, "s", "ram", ""),
        (40, 90, "s", "vf0", ""),
        (90, 95, "d", "vf0", ""),
        (95, 100, "d", "vf0", ""),
    ]


def test_a_read_is_the_devices_and_what_is_between_reads_is_sending() -> None:
    reads = [call(20, 50, "vf0", READ), call(60, 61, "vf0", READ)]
    source = work(lane(Step.SAVE, (10, 90, "vf0")), calls={"vf0": reads})
    destination = work(lane(Step.LOAD, (15, 90, "vf0")))
    assert told(critical.path(source, destination, 10, 90)) == [
        (10, 20, "s", "vf0", SEND),
        (20, 50, "s", "vf0", READ),
        (50, 60, "s", "vf0", SEND),
        (60, 61, "s", "vf0", READ),
        (61, 90, "s", "vf0", SEND),
    ]


def test_a_load_that_writes_nothing_while_the_source_saves_waits_for_the_stream() -> None:
    """The end of vf0's data is in the source's buffer while vf1 is read, and is sent with vf1's."""
    reads = {"vf0": [call(0, 10, "vf0", READ)], "vf1": [call(20, 9000, "vf1", READ)]}
    writes = {
        "vf0": [call(15, 30, "vf0", WRITE), call(9600, 9610, "vf0", WRITE)],
        "vf1": [call(9630, 9640, "vf1", WRITE)],
    }
    saves = lane(Step.SAVE, (0, 10, "vf0"), (10, 9100, "vf1"))
    loads = lane(Step.LOAD, (12, 9620, "vf0"), (9620, 9700, "vf1"))
    source, destination = work(saves, calls=reads), work(loads, calls=writes)
    assert told(critical.path(source, destination, 0, 9700)) == [
        (0, 10, "s", "vf0", READ),
        (10, 15, "s", "vf1", SEND),
        (15, 20, "d", "vf0", WRITE),
        (20, 9000, "s", "vf1", READ),
        (9000, 9100, "s", "vf1", SEND),
        (9100, 9600, "d", "vf0", ""),
        (9600, 9610, "d", "vf0", WRITE),
        (9610, 9620, "d", "vf0", ""),
        (9620, 9630, "d", "vf1", ""),
        (9630, 9640, "d", "vf1", WRITE),
        (9640, 9700, "d", "vf1", ""),
    ]


@pytest.mark.parametrize("early", [[], [call(15, 30, "vf0", WRITE)]])
def test_so_does_one_that_has_written_nothing_yet(early: list[Activity]) -> None:
    writes = {"vf0": [*early, call(9600, 9610, "vf0", WRITE)]}
    saves = lane(Step.SAVE, (0, 10, "vf0"), (10, 9100, "vf1"))
    loads = lane(Step.LOAD, (12, 9620, "vf0"), (9620, 9700, "vf1"))
    found = told(critical.path(work(saves), work(loads, calls=writes), 0, 9700))
    assert (30 if early else 10, 9100, "s", "vf1", "") in found


@pytest.mark.parametrize(
    ("saved", "writes"),
    [
        (6000, {}),  # nobody watched
        (6000, {"vf0": [call(n, n + 10, "vf0", WRITE) for n in range(20, 6900, 500)]}),
        (100, {"vf0": [call(20, 110, "vf0", WRITE), call(6800, 6810, "vf0", WRITE)]}),
    ],
)
def test_one_that_is_not_known_to_wait_is_at_work(
    saved: int, writes: dict[str, list[Activity]]
) -> None:
    saves = lane(Step.SAVE, (0, 10, "vf0"), (10, saved, "vf1"))
    loads = lane(Step.LOAD, (12, 7000, "vf0"), (7000, 7100, "vf1"))
    found = critical.path(work(saves), work(loads, calls=writes), 0, 7100)
    then = [s for s in found if s.begin_us < 7000 and s.end_us > 110]
    assert {(s.side, s.owner) for s in then} == {(DESTINATION, "vf0")}


def test_what_it_waited_for_before_its_section_was_saved_does_not_count() -> None:
    writes = [call(15, 30, "vf0", WRITE), call(4800, 4900, "vf0", WRITE)]
    saves = lane(Step.SAVE, (0, 5000, "vf0"), (5000, 5050, "vf1"))
    loads = lane(Step.LOAD, (12, 5500, "vf0"), (5500, 5600, "vf1"))
    found = told(critical.path(work(saves), work(loads, calls={"vf0": writes}), 0, 5600))
    assert found[-2:] == [(5000, 5500, "d", "vf0", ""), (5500, 5600, "d", "vf1", "")]


def test_waiting_ends_where_the_load_began() -> None:
    """vf1's load began when all was saved: what vf0's took before that stays with vf0."""
    saves = lane(Step.SAVE, (0, 10, "vf0"), (10, 20, "vf1"))
    loads = lane(Step.LOAD, (12, 3000, "vf0"), (3000, 9000, "vf1"))
    writes = {"vf1": [call(8000, 8010, "vf1", WRITE)]}
    found = told(critical.path(work(saves), work(loads, calls=writes), 0, 9000))
    assert (12, 3000, "d", "vf0", "") in found


def test_a_write_that_holds_up_the_stream_is_the_destinations() -> None:
    reads = {"vf0": [call(10, 12, "vf0", READ), call(70, 72, "vf0", READ)]}
    writes = {"vf0": [call(15, 65, "vf0", WRITE), call(92, 93, "vf0", WRITE)]}
    source = work(lane(Step.SAVE, (10, 80, "vf0")), calls=reads)
    destination = work(lane(Step.LOAD, (12, 100, "vf0")), calls=writes)
    assert told(critical.path(source, destination, 10, 100)) == [
        (10, 12, "s", "vf0", READ),
        (12, 15, "s", "vf0", SEND),
        (15, 65, "d", "vf0", WRITE),
        (65, 70, "s", "vf0", SEND),
        (70, 72, "s", "vf0", READ),
        (72, 80, "s", "vf0", SEND),
        (80, 92, "d", "vf0", ""),
        (92, 93, "d", "vf0", WRITE),
        (93, 100, "d", "vf0", ""),
    ]


def test_of_several_threads_the_last_one_counts_and_config_loads_keep_the_lock() -> None:
    source = work(
        lane(Step.SAVE, (5, 10, "ram")),
        {d: Activity(5, end, Step.SAVE, d) for d, end in (("vf0", 30), ("vf1", 70))},
    )
    config = [Activity(71, 75, Step.LOAD, "vf0", CONFIG), Activity(75, 80, Step.LOAD, "vf1")]
    destination = work(
        [*lane(Step.LOAD, (6, 10, "ram")), *lane(Step.START, (80, 90, "vCPUs"))],
        {d: Activity(6, end, Step.LOAD, d) for d, end in (("vf0", 76), ("vf1", 80))},
        config=config,
    )
    assert told(critical.path(source, destination, 5, 90)) == [
        (5, 70, "s", "vf1", ""),
        (70, 71, "d", "vf1", ""),
        (71, 75, "d", "vf0", CONFIG),
        (75, 80, "d", "vf1", CONFIG),
        (80, 90, "d", "vCPUs", ""),
    ]


def test_a_thread_is_at_work_again_once_the_lock_is_free() -> None:
    source = work([], {"vf1": Activity(0, 10, Step.SAVE, "vf1")})
    config = [Activity(20, 30, Step.LOAD, "vf0", CONFIG)]
    destination = work([], {"vf1": Activity(0, 50, Step.LOAD, "vf1")}, config=config)
    assert told(critical.path(source, destination, 0, 50)) == [
        (0, 10, "s", "vf1", ""),
        (10, 20, "d", "vf1", ""),
        (20, 30, "d", "vf0", CONFIG),
        (30, 50, "d", "vf1", ""),
    ]


def test_what_nobody_did_is_nobodys() -> None:
    source = work(lane(Step.STOP, (0, 10, "vCPUs")) + lane(Step.SAVE, (30, 40, "ram")))
    destination = work(lane(Step.LOAD, (45, 50, "ram")))
    assert told(critical.path(source, destination, 0, 60)) == [
        (0, 10, "s", "vCPUs", ""),
        (10, 30, "s", UNATTRIBUTED, ""),
        (30, 40, "s", "ram", ""),
        (40, 45, "d", UNATTRIBUTED, ""),
        (45, 50, "d", "ram", ""),
        (50, 60, "d", UNATTRIBUTED, ""),
    ]


@st.composite
def lanes(draw: st.DrawFn, steps: tuple[Step, ...], owners: tuple[str, ...]) -> list[Activity]:
    edges = sorted(draw(st.lists(st.integers(-20, 120), max_size=12, unique=True)))
    made = []
    for begin, end in zip(edges[::2], edges[1::2], strict=False):
        owner = draw(st.sampled_from(owners))
        made.append(Activity(begin, end, draw(st.sampled_from(steps)), owner, owner))
    return made


@st.composite
def works(draw: st.DrawFn, side: str) -> Work:
    source = side == SOURCE
    steps = (Step.STOP, Step.SYNC, Step.SAVE) if source else (Step.LOAD, Step.START)
    threads = {}
    for device in draw(st.sets(st.sampled_from(DEVICES))):
        begin, length = draw(st.integers(-20, 120)), draw(st.integers(1, 80))
        threads[device] = Activity(begin, begin + length, steps[-1 if source else 0], device)
    calls = {}
    for device in draw(st.sets(st.sampled_from(DEVICES))):
        kind = READ if source else WRITE
        made = draw(lanes((Step.SAVE if source else Step.LOAD,), (device,)))
        calls[device] = [Activity(c.begin, c.end, c.step, device, kind) for c in made]
    config = [] if source else draw(lanes((Step.LOAD,), DEVICES))
    return Work(draw(lanes(steps, SECTIONS)), threads, calls, config, {})


@given(works(SOURCE), works(DESTINATION), st.integers(0, 50), st.integers(51, 100))
def test_each_instant_has_one_owner(source: Work, destination: Work, begin: int, end: int) -> None:
    path = critical.path(source, destination, begin, end)
    assert (path[0].begin_us, path[-1].end_us) == (begin, end)
    assert all(a.end_us == b.begin_us for a, b in pairwise(path))
    assert all(segment.us > 0 for segment in path)
    assert sum(segment.us for segment in path) == end - begin
    busy = [*source.main, *source.lanes.values(), *destination.main, *destination.lanes.values()]
    busy += [c for w in (source, destination) for calls in w.calls.values() for c in calls]
    busy += destination.config
    for segment in path:
        if segment.owner != UNATTRIBUTED:
            at, owner = segment.begin_us, segment.owner
            assert any(a.owner == owner and a.begin <= at < a.end for a in busy)
