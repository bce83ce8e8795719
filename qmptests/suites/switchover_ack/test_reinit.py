"""REINIT at every moment of a migration with the new mechanism: what QEMU does, and who says so.

| REINIT is answered | QEMU |
|---|---|
| before the device's initial data have gone out | asks for nothing more: the first ack covers it |
| after that, in precopy | asks for another ack, and waits for it, each time |
| at the final check, when the VM was stopped | fails the migration; the source runs on |
| with the capability off, or with the legacy mechanism | completes, and has no ack for it |
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import WhenHeld
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed, waiting
from qmptests.suites.switchover_ack.counted import CAPABILITIES, assert_acked
from qmptests.suites.switchover_ack.pending import OUTLASTS_THE_FIRST_WINDOW, QUERY
from qmptests.suites.switchover_ack.reinit import ReinitAfterAck, assert_reinits
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import SecondAttempt

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

KIB, MIB = 1 << 10, 1 << 20
FINAL = "Switchover ACK was requested by 1 devices during switchover"


def plan(build: "Build", *devices: Any, **more: Any) -> dict[str, Any]:
    """A migration of firmware with the new mechanism."""
    wanted: dict[str, Any] = {"vm": "none", "machine": machines.new(build), "timeout_s": 20.0}
    return wanted | {"capabilities": CAPABILITIES, "devices": list(devices)} | more


def assert_arrived(outcome: "Outcome") -> None:
    """It completed, and every byte that was sent of each device is there."""
    assert outcome.completed, outcome
    for device in outcome.destination.record.devices:
        assert device.arrival
        assert device.arrival.problem == ""


def assert_told(outcome: "Outcome", device: str = "vf0") -> None:
    """What the explanation of the downtime says of a device's REINITs is what its own log says."""
    story = observed.story(outcome)
    (told,) = (one for one in story.devices if one.name == device)
    calls = observed.reinits(outcome, device)
    assert told.reinit_count == sum(call.times for call in calls)
    assert [one.initial for one in told.reinits] == [c.answer["initial_bytes"] for c in calls]
    asked_again = [ack for ack in story.acks if ack.device == device and ack.why == "reinit"]
    traced = outcome.source.trace.select([observed.ASKED_AGAIN])
    assert len(asked_again) == sum(event.label == device for event in traced)
    sent = [
        chunk.bytes
        for record in outcome.source.record.devices
        for chunk in record.sent
        if record.name == device and chunk.kind == "initial" and chunk.generation
    ]
    assert told.moved_bytes == sum(sent)


def initial_sent(outcome: "Outcome", device: str = "vf0") -> list[int]:
    """Initial bytes that were read from a device, by generation: each REINIT begins one."""
    (record,) = (d for d in outcome.source.record.devices if d.name == device)
    return [chunk.bytes for chunk in record.sent if chunk.kind == "initial"]


def test_before_the_first_ack_it_asks_for_nothing_more(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Initial data are left, so that the ack that is missing anyway comes after the new ones."""
    rules = [OUTLASTS_THE_FIRST_WINDOW, "precopy-info+reinit=1M+in=pre-copy+after_bytes=1"]
    device = vfio.emulated("idle", initial="8M", stop_copy="64K", when=rules)
    outcome = migration(**plan(same_build, device)).run()
    assert_arrived(outcome)
    (reinit,) = observed.reinits(outcome)
    sent = outcome.source.trace.first(observed.SENT)
    assert sent
    assert reinit.at < (sent.time_us or 0), "not reached: the initial data had gone out"
    assert reinit.answer["initial_bytes"] > MIB, "not reached: there were no initial data left"
    assert assert_acked(outcome, 1) == observed.NEW
    assert outcome.source.trace.count(observed.ASKED_AGAIN) == 0
    assert sum(initial_sent(outcome)) == 9 * MIB


def test_after_the_ack_switchover_waits_for_another(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination is held at the new data: all that is left fits, and nothing happens."""
    hold = f"write+hold+side=destination+after_bytes={64 * KIB}"
    device = vfio.emulated("idle", initial="64K", stop_copy="64K", when=[hold])
    wanted = plan(same_build, device, trace=(QUERY,), transport="tcp")
    reinit = ReinitAfterAck("vf0", sizes=[64 * KIB])
    held = WhenHeld("destination", waiting.for_an_ack)
    outcome = migration(**wanted).run(reinit, held)
    assert held.count == 1, "not reached: the destination was not held"
    assert_arrived(outcome)
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 1, reinits=1) == observed.NEW
    assert_told(outcome)


@pytest.mark.parametrize(
    "sizes",
    [[64 * KIB], [4 * MIB], [64 * KIB, 4 * MIB], [MIB, MIB, MIB]],
    ids=["smaller", "larger", "smaller-then-larger", "thrice"],
)
def test_each_asks_for_its_ack_whatever_its_size(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", sizes: list[int]
) -> None:
    device = vfio.emulated("idle", initial="1M", stop_copy="64K")
    reinit = ReinitAfterAck(*["vf0"] * len(sizes), sizes=sizes, in_turn=True)
    outcome = migration(**plan(same_build, device)).run(reinit)
    assert_arrived(outcome)
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 1, reinits=len(sizes)) == observed.NEW
    assert initial_sent(outcome) == [MIB, *sizes]
    assert_told(outcome)


def test_dirty_data_that_are_left_become_part_of_the_new_initial_data(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """A device whose data flows has some left at any time. Nothing of it gets lost."""
    device = vfio.emulated(
        "idle", initial="1M", dirty_rate="512M", dirty_limit="4M", stop_copy="64K"
    )
    reinit = ReinitAfterAck("vf0", "vf0", in_turn=True)
    outcome = migration(**plan(same_build, device)).run(reinit)
    assert_arrived(outcome)
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 1, reinits=2) == observed.NEW
    asked_for = list(observed.sizes(outcome))
    outstanding = [
        before.answer["dirty_bytes"]
        for before, now in itertools.pairwise(asked_for)
        if now.answer["flags"] & observed.REINIT
    ]
    assert any(outstanding), "not reached: no dirty data were left"
    assert [c.answer["dirty_bytes"] for c in observed.reinits(outcome)] == [0, 0]


@pytest.mark.parametrize("in_turn", [True, False], ids=["in-turn", "at-once"])
def test_several_devices_each_ask_for_their_own(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", in_turn: bool
) -> None:
    names = ["vf0", "vf1", "vf2"]
    devices = [vfio.emulated("idle", initial="64K", stop_copy="64K")] * 4
    reinit = ReinitAfterAck(*names, in_turn=in_turn)
    outcome = migration(**plan(same_build, *devices)).run(reinit)
    assert_arrived(outcome)
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 4, reinits=3) == observed.NEW
    for name in names:
        assert_told(outcome, name)
    again = [e.label for e in outcome.source.trace.events(observed.ASKED_AGAIN)]
    assert again == names


def test_at_the_final_check_it_fails_the_migration_and_the_source_runs_on(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """No ack can come any more. A second migration of the same device succeeds."""
    rule = "precopy-info:final+reinit=1M"
    device = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])
    second = SecondAttempt()
    outcome = migration(**plan(same_build, device, vm="dirtier", retries=1)).run(second)
    assert_arrived(outcome)
    assert second.count == 1, "not reached: the first attempt did not fail"
    failed = outcome.record.attempts[0]
    assert failed.status == "failed"
    assert FINAL in failed.error
    walked = asked.states(outcome)
    assert walked[2:5] == ["pre-copy", "pre-copy-p2p", "stop-copy"]
    assert walked[5:9] == ["running", "running-p2p", "running", "pre-copy"]


@pytest.mark.usefixtures("same_build")
def test_without_the_capability_it_is_harmless(migration: "Migrate", vfio: "Vfio") -> None:
    """Nobody acks, so nobody waits: what is new is read when the VM is stopped, or before."""
    device = vfio.emulated("idle", initial="1M", stop_copy="64K", when=["read+reinit=1M+nth=1"])
    outcome = migration(vm="none", devices=[device], capabilities=["return-path"]).run()
    assert_arrived(outcome)
    assert observed.mechanism(outcome) == ""
    assert observed.on_the_wire(outcome) == 0
    expected = 1 if observed.opted_in(outcome.source.trace) else 0
    assert len(observed.reinits(outcome)) == expected


def test_without_the_capability_there_is_no_final_check(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The device has a REINIT ready for it, and is not asked."""
    device = vfio.emulated(
        "idle", initial="1M", stop_copy="64K", when=["precopy-info:final+reinit=1M"]
    )
    wanted = plan(same_build, device) | {"capabilities": ["return-path"]}
    outcome = migration(**wanted, expected=Result.RULE_NEVER_FIRED).run()
    assert outcome.as_expected, outcome
    assert observed.reinits(outcome) == []
