"""The precopy story of real migrations: why switchover did not happen yet, and what was left."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qmptests import builds
from qmptests.downtime import clocks, precopy, sources
from qmptests.downtime.precopy import SWITCHOVER, Story
from qmptests.downtime.precopy_data import Interval, Why
from qmptests.fixtures.migrating import Migration
from qmptests.fixtures.vfio import Vfio
from qmptests.migration import Observer, Phase, Run
from qmptests.outcome import Outcome
from qmptests.outcome.record import Result

Migrate = Callable[..., Migration]

VERSIONS = {"10.0": "debian:trixie", "11.1": "debian:trixie-backports"}
ACKS = ["return-path", "switchover-ack"]
HELD_MS = 150


def on(version: str) -> dict[str, Any]:
    build = builds.resolve(VERSIONS[version])
    return {"source": build, "destination": build}


def told(outcome: Outcome) -> Story:
    """The story; what holds for each is checked."""
    evidence = sources.open(outcome.folder)
    story = precopy.story(evidence, clocks.measure(evidence).destination_us)
    assert evidence.problems == []
    assert (story.intervals[0].begin_us, story.intervals[-1].end_us) == (
        story.begin_us,
        story.end_us,
    )
    assert all(one.end_us == two.begin_us for one, two in pairwise(story.intervals))
    assert [i.why for i in story.intervals][:2] == [Why.SETUP, Why.BANDWIDTH]
    assert msgspec.json.decode(msgspec.json.encode(story), type=Story) == story
    lines = precopy.lines(story)
    assert all(len(line) <= 72 for line in lines)
    assert len(lines) <= 30
    return story


def longest(story: Story) -> Interval:
    return max(story.intervals, key=lambda interval: interval.us)


@pytest.mark.parametrize(
    ("version", "machine", "mechanism"),
    [("10.0", "", "legacy"), ("11.1", "", "new"), ("11.1", "pc-q35-11.0", "legacy")],
)
def test_a_device_that_is_held_back_is_waited_for_by_name(
    migration: Migrate, vfio: Vfio, version: str, machine: str, mechanism: str
) -> None:
    slow = f"read+delay={HELD_MS}ms+times=2+in=pre-copy+side=source"
    devices = [
        vfio.emulated("idle", initial="64K"),
        vfio.emulated("idle", initial="2M", when=[slow]),
    ]
    story = told(
        migration(devices=devices, capabilities=ACKS, machine=machine, **on(version)).run()
    )
    assert (story.ended, story.mechanism) == (SWITCHOVER, mechanism)
    waits = [i for i in story.intervals if i.why is Why.ACK and "vf1" in i.devices]
    assert sum(i.us for i in waits) >= HELD_MS * 1000
    assert any("ack from vf" in line for line in precopy.lines(story))
    (quick,) = (ack for ack in story.acks if ack.device == "vf0")
    (held,) = (ack for ack in story.acks if ack.device == "vf1")
    for ack in quick, held:
        assert ack.sent_us is not None
        assert ack.approved_us is not None
        assert ack.given_us is not None
        assert ack.asked_us < ack.sent_us <= ack.given_us
    assert quick.sent_us is not None
    assert held.sent_us is not None
    assert quick.sent_us < held.sent_us
    assert (quick.given_us == held.given_us) is (mechanism == "legacy")
    assert [device.read_bytes for device in story.devices] == [64 << 10, 2 << 20]
    assert all(d.last is not None and not d.last.initial for d in story.devices)


def test_a_device_with_too_much_is_told_in_bytes(migration: Migrate, vfio: Vfio) -> None:
    outcome = migration(
        vm="none",
        devices=[vfio.emulated("idle", stop_copy="64M")],
        parameters={"avail-switchover-bandwidth": 100 << 20, "downtime-limit": 100},
        timeout_s=1.5,
        **on("11.1"),
    ).run()
    assert outcome.record.result is Result.TIMED_OUT
    story = told(outcome)
    assert (story.ended, story.pending, story.mechanism) == ("cancelling", None, "")
    interval = longest(story)
    assert interval.why is Why.BYTES
    assert interval.fits == 10 << 20
    assert interval.last.devices["vf0"].stop_copy == 64 << 20
    last = story.passes[-1]
    assert last.until - last.number > 100  # thousands, in which nothing changed
    assert last.expected_ms == pytest.approx(640, rel=0.01)
    assert story.limit_ms == 100


def test_each_reinit_asks_for_another_ack(migration: Migrate, vfio: Vfio) -> None:
    device = vfio.emulated("idle", initial="1M", late="1M", late_after="1M", late_times=2)
    story = told(migration(devices=[device], capabilities=ACKS, **on("11.1")).run())
    assert [ack.why for ack in story.acks] == ["setup", "reinit", "reinit"]
    assert all(ack.given_us is not None for ack in story.acks)
    (told_of,) = story.devices
    assert told_of.reinit_count == 2
    assert told_of.read_bytes == 3 << 20
    assert told_of.moved_bytes == 2 << 20
    said = "\n".join(precopy.lines(story))
    assert "2M moved from stop-copy to precopy by REINIT" in said
    assert said.count("REINIT ack asked") == 2


def test_many_acks_are_counted(migration: Migrate, vfio: Vfio) -> None:
    device = vfio.emulated("idle", initial="1M", late="1M", late_after="1M", late_times=3)
    story = told(migration(devices=[device], capabilities=ACKS, **on("11.1")).run())
    assert "4 acks asked, 4 given; the last:" in "\n".join(precopy.lines(story))


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("source", "machine", "mechanism"),
    [("10.0", "pc-q35-10.0", "legacy"), ("11.1", "pc-q35-11.0", "legacy"), ("11.1", "", "new")],
)
def test_the_mechanism_is_told_though_no_device_is_asked(
    migration: Migrate, vfio: Vfio, source: str, machine: str, mechanism: str, count: int
) -> None:
    plan = on("11.1") | {"source": builds.resolve(VERSIONS[source]), "machine": machine}
    devices = [vfio.emulated("no-precopy")] * count
    outcome = migration(vm="none", devices=devices, capabilities=ACKS, **plan).run()
    assert precopy.story(sources.open(outcome.folder)).mechanism == mechanism


def test_what_ram_has_left_is_told_where_it_was_traced(migration: Migrate, vfio: Vfio) -> None:
    traced = {"10.0": "migrate_pending_*", "11.1": "qemu_savevm_query_pending"}
    for version, event in traced.items():
        device = vfio.emulated("idle", stop_copy="4M")
        story = told(migration(devices=[device], trace=(event,), **on(version)).run())
        ram = [p.first.ram for p in story.passes] + [i.last.ram for i in story.intervals]
        assert any(left for left in ram if left is not None)
        assert not any("RAM" in note for note in story.notes)


def test_7_2_tells_of_bandwidth_and_decision(migration: Migrate) -> None:
    build = builds.resolve("debian:bookworm")
    story = told(migration(source=build, destination=build).run())
    assert (story.ended, story.mechanism, story.devices) == (SWITCHOVER, "", [])
    assert story.bandwidths
    assert story.pending is not None


class Pause(Observer):
    """`stop` in precopy, and `cont` when that has been answered."""

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is Phase.ACTIVE:
            await run.source.execute("stop")
            await run.source.execute("query-status")
            await run.source.execute("cont")


def test_the_users_pause_is_no_other_waiting(migration: Migrate) -> None:
    slow = {"max-bandwidth": 64 << 20}
    story = told(migration(parameters=slow, **on("11.1")).run(Pause()))
    paused = [interval for interval in story.intervals if interval.why is Why.PAUSED]
    assert paused
    assert story.ended == SWITCHOVER


def test_the_story_of_a_second_attempt_is_its_own(migration: Migrate) -> None:
    outcome = migration(capabilities=["return-path"], cancel_at="active", retries=1).run()
    story = told(outcome)
    first = precopy.story(sources.open(outcome.folder, 0))
    assert first.ended == "cancelling"
    assert first.begin_us < first.end_us <= story.begin_us < story.end_us
    assert story.ended == SWITCHOVER


def test_without_logs_it_says_so(migration: Migrate, tmp_path: Path) -> None:
    outcome = migration(vm="none").run()
    (outcome.folder / "source.trace.log").rename(tmp_path / "trace")
    story = precopy.story(sources.open(outcome.folder))
    assert story.ended == SWITCHOVER  # by the transcript
    assert [interval.why for interval in story.intervals] == [Why.SETUP, Why.BANDWIDTH]
    assert any("bandwidth is not known" in note for note in story.notes)
    (outcome.folder / "source.qmp.jsonl").rename(tmp_path / "qmp")
    story = precopy.story(sources.open(outcome.folder))
    assert (story.us, story.intervals) == (0, [])
    assert precopy.lines(story) == [
        "note         the source's logs do not tell of a migration that began"
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_bandwidth_for_the_switchover_the_measured_one_is_used(
    migration: Migrate, version: str
) -> None:
    """10.0 says 0 for it then."""
    story = told(migration(**on(version)).run())
    assert story.bandwidths
    assert all(one.switchover > 0 for one in story.bandwidths)
