"""REINIT at every moment of a migration with the new mechanism: what QEMU does, and who says so.

| REINIT is answered | QEMU |
|---|---|
| before the device's initial data have gone out | asks for nothing more: the first ack covers it |
| after that, before their ack has come | asks for another ack, and waits for both |
| after that, in precopy | asks for another ack, and waits for it, each time |
| at the final check, when the VM is stopped | fails the migration: see `test_failures` |
| with the legacy mechanism | does not wait, and has no final check; nor with the capability off |
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
from qmptests.suites.switchover_ack.reinit import TIMEOUT_S, ReinitAfterAck, assert_reinits
from qmptests.vfio import when

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome
    from qmptests.vm.devices import DeviceProfile

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

KIB, MIB = 1 << 10, 1 << 20


def plan(build: "Build", *devices: Any, **more: Any) -> dict[str, Any]:
    """A migration of firmware with the new mechanism."""
    wanted: dict[str, Any] = {"vm": "none", "timeout_s": TIMEOUT_S, "capabilities": CAPABILITIES}
    wanted |= {"devices": list(devices)} | more
    return wanted if "machine" in wanted else wanted | {"machine": machines.new(build)}


def assert_arrived(outcome: "Outcome") -> None:
    """It completed, and every byte that was sent of each device is there."""
    assert outcome.completed, outcome
    for device in outcome.destination.record.devices:
        assert device.arrival
        assert device.arrival.problem == ""


def assert_told(outcome: "Outcome", device: str = "vf0", *, moved: int | None = None) -> None:
    """What the explanation of the downtime says of a device's REINITs is what its own log says.

    `moved`: bytes that they made initial, all of which were read in precopy; if not given, all that
    was read as initial after the first of them.
    """
    story = observed.story(outcome)
    (told,) = (one for one in story.devices if one.name == device)
    calls = observed.reinits(outcome, device)
    assert told.reinit_count == len(told.reinits) == sum(call.times for call in calls)
    assert [one.initial for one in told.reinits] == [c.answer["initial_bytes"] for c in calls]
    assert told.moved_bytes == (sum(initial_sent(outcome, device)[1:]) if moved is None else moved)
    again = [ack for ack in story.acks if ack.device == device and ack.why == "reinit"]
    traced = outcome.source.trace.events(observed.ASKED_AGAIN)
    assert len(again) == sum(event.label == device for event in traced)
    for ack in again:
        assert ack.sent_us
        assert ack.approved_us
        assert ack.given_us
        assert ack.asked_us <= ack.sent_us <= ack.given_us


def initial_sent(outcome: "Outcome", device: str = "vf0") -> list[int]:
    """Initial bytes that were read from a device, by generation: each REINIT begins one."""
    (record,) = (d for d in outcome.source.record.devices if d.name == device)
    return [chunk.bytes for chunk in record.sent if chunk.kind == "initial"]


def holding(vfio: "Vfio", *, new: bool = False) -> "DeviceProfile":
    """64 KiB of initial data, that or the data after it held back by the destination.

    There is room for it in a TCP connection, and for what the source sends meanwhile.
    """
    hold = f"write+hold+side=destination+after_bytes={64 * KIB * new}"
    return vfio.emulated("idle", initial="64K", stop_copy="64K", when=[hold])


def owed(outcome: "Outcome") -> list[int]:
    """How many acks the source waited for after each that came."""
    acked = outcome.source.trace.events(observed.ACKED)
    return [int(event.args["switchover_ack_pending_num"]) for event in acked]


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
    assert_told(outcome, moved=MIB)


def test_before_the_ack_of_data_that_went_out_there_are_two_to_wait_for(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination is held at the first data, until the device has had its REINIT."""

    async def reinit(run: "Run") -> None:
        trace, emulation = run.source.trace, run.source.emulation
        assert emulation is not None
        await trace.wait_for(observed.SENT, timeout=TIMEOUT_S)
        await emulation.add_rule("vf0", when.parse("precopy-info+reinit=64K").rule())
        await trace.wait_for(observed.ASKED_AGAIN, timeout=TIMEOUT_S)
        assert not trace.log.count(observed.ACKED), "not reached: the first ack has come"

    held = WhenHeld("destination", reinit)
    outcome = migration(**plan(same_build, holding(vfio), transport="tcp")).run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert_arrived(outcome)
    assert assert_acked(outcome, 1, reinits=1) == observed.NEW
    assert owed(outcome) == [1, 0]
    assert initial_sent(outcome) == [64 * KIB] * 2
    assert_told(outcome)


def test_after_the_ack_switchover_waits_for_another(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination is held at the new data: all that is left fits, and nothing happens."""
    wanted = plan(same_build, holding(vfio, new=True), trace=(QUERY,), transport="tcp")
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
    for ack, following in itertools.pairwise(observed.story(outcome).acks):
        assert (ack.given_us or 0) <= following.asked_us, "not reached: it did not come in turn"


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
    answers = [call.answer for call in observed.reinits(outcome)]
    assert [answer["dirty_bytes"] for answer in answers] == [0, 0]
    initial = [answer["initial_bytes"] for answer in answers]
    assert max(initial) > MIB, "not reached: no dirty data were left"
    assert initial_sent(outcome) == [MIB, *initial]
    assert_told(outcome)


def test_several_devices_in_turn_each_have_their_own(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    names = ["vf2", "vf0", "vf1"]
    devices = [vfio.emulated("idle", initial="64K", stop_copy="64K")] * 4
    reinit = ReinitAfterAck(*names, in_turn=True)
    outcome = migration(**plan(same_build, *devices)).run(reinit)
    assert_asked_again(outcome, reinit)
    assert owed(outcome) == [3, 2, 1, 0, 0, 0, 0]


def test_several_devices_at_once_each_have_their_own(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination is held at the new data of the first, until all of them have asked."""

    async def all_asked(run: "Run") -> None:
        trace = run.source.trace
        await trace.wait_for_count(observed.ASKED_AGAIN, 3, timeout=TIMEOUT_S)

    names = ["vf2", "vf0", "vf1"]
    small = vfio.emulated("idle", initial="64K", stop_copy="64K")
    devices = [small, small, holding(vfio, new=True), small]
    reinit = ReinitAfterAck(*names, sizes=[64 * KIB] * 3)
    held = WhenHeld("destination", all_asked)
    outcome = migration(**plan(same_build, *devices, transport="tcp")).run(reinit, held)
    assert held.count == 1, "not reached: the destination was not held"
    assert_asked_again(outcome, reinit)
    assert owed(outcome) == [3, 2, 1, 0, 2, 1, 0], "not reached: an ack came too early"


def assert_asked_again(outcome: "Outcome", reinit: ReinitAfterAck) -> None:
    """That of four devices those of `reinit` asked once more, and the others did not."""
    assert_arrived(outcome)
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 4, reinits=len(reinit.devices)) == observed.NEW
    again = [event.label for event in outcome.source.trace.events(observed.ASKED_AGAIN)]
    assert again == list(reinit.devices)
    for device in outcome.source.record.devices:
        assert_told(outcome, device.name)


def test_only_devices_with_reinit_ask_again(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """What is new is dirty data to one without REINIT; one without precopy is not even asked."""
    sizes = {"initial": "64K", "stop_copy": "64K"}
    with_reinit = vfio.emulated("idle", **sizes)
    without = vfio.emulated("no-reinit", **sizes, late=0)
    devices = [without, vfio.emulated("no-precopy", stop_copy="64K"), with_reinit]
    reinit = ReinitAfterAck("vf0", "vf2")
    outcome = migration(**plan(same_build, *devices)).run(reinit)
    assert_arrived(outcome)
    (unable, _, able) = outcome.source.record.devices
    assert "dirty" in {chunk.kind for chunk in unable.sent}, "not reached: it had no new data"
    assert assert_acked(outcome, 2, reinits=1) == observed.NEW
    assert (unable.reinits, able.reinits) == (0, 1)
    assert [e.label for e in outcome.source.trace.events(observed.ASKED_AGAIN)] == ["vf2"]
    for name in ("vf0", "vf2"):
        assert_told(outcome, name)


def test_with_the_legacy_mechanism_switchover_does_not_wait_for_the_new_data(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination is held at them until the source has decided. 10.0 has dirty data instead."""

    async def decided(run: "Run") -> None:
        await run.source.trace.wait_for(observed.DECIDED, timeout=TIMEOUT_S)

    reinit, held = ReinitAfterAck("vf0"), WhenHeld("destination", decided)
    wanted = plan(same_build, holding(vfio, new=True), machine=machines.legacy(same_build))
    outcome = migration(**wanted, transport="tcp").run(reinit, held)
    assert held.count == 1, "not reached: the destination was not held"
    assert_arrived(outcome)
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 1) == observed.LEGACY


@pytest.mark.parametrize(
    ("kind", "capabilities"),
    [(observed.NEW, ["return-path"]), (observed.LEGACY, CAPABILITIES)],
    ids=["capability-off", "legacy"],
)
def test_without_the_new_mechanism_there_is_no_final_check(
    migration: "Migrate",
    vfio: "Vfio",
    same_build: "Build",
    kind: str,
    capabilities: list[str],
) -> None:
    """The device has a REINIT ready for it, and is not asked."""
    device = vfio.emulated(
        "idle", initial="1M", stop_copy="64K", when=["precopy-info:final+reinit=1M"]
    )
    wanted = plan(same_build, device, machine=machines.TYPES[kind](same_build))
    wanted |= {"capabilities": capabilities, "expected": Result.RULE_NEVER_FIRED}
    outcome = migration(**wanted).run()
    assert outcome.as_expected, outcome
    assert observed.mechanism(outcome) == (kind if capabilities == CAPABILITIES else "")
    assert observed.reinits(outcome) == []
    assert observed.decisions(outcome) == 1
