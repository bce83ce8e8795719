"""The two mechanisms of acks: who counts, who sends, and that switchover waits.

| | legacy (8.1 to 11.0, and their machine types) | new (11.1) |
|---|---|---|
| counted by | the destination, as devices get ready to load | the source, as they start |
| an ack is sent | once, when all devices have approved | for each device that has loaded its data |
| asked again | never | after each REINIT |
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import WhenHeld
from qmptests.suites.switchover_ack import machines, observed, pending, waiting
from qmptests.suites.switchover_ack.counted import CAPABILITIES, assert_acked
from qmptests.suites.switchover_ack.pending import OUTLASTS_THE_FIRST_WINDOW
from qmptests.trace import match_sequence

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

PROPERTY = ("-global", f"{machines.LEGACY}=on")
SMALL = {"initial": "64K", "stop_copy": "64K"}
HOLD = "write+hold+side=destination"
#: Its second read comes after all devices' first, and after the marks of those that are done.
LAST = {"initial": (1 << 20) + (64 << 10), "stop_copy": "64K"}
HOLD_LAST = f"{HOLD}+after_bytes={1 << 20}"


def plan(machine: str, **more: Any) -> dict[str, Any]:
    """A migration of firmware, by TCP: a source whose destination is held goes on asking."""
    wanted: dict[str, Any] = {"vm": "none", "machine": machine, "capabilities": CAPABILITIES}
    return wanted | {"transport": "tcp", "timeout_s": 20.0} | more


def traced(build: "Build") -> tuple[str, ...]:
    """What tells how much the source takes to be left, by version."""
    return tuple(name for name in waiting.EXACT if name in build.facts.trace_events)[:1]


def counts(outcome: "Outcome") -> list[int]:
    """How many approvals were missing after each, as the legacy destination counts them."""
    return [int(e.args["switchover_ack_pending_num"]) for e in observed.approvals(outcome)]


@pytest.mark.parametrize("count", [1, 4])
def test_a_legacy_destination_counts_its_devices_and_sends_one_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", count: int
) -> None:
    devices = [vfio.emulated("idle", **SMALL)] * count
    outcome = migration(**plan(machines.legacy(same_build)), devices=devices).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, count) == observed.LEGACY
    assert_counted_down(outcome, count)


@pytest.mark.parametrize("count", [1, 4])
def test_a_property_makes_a_new_machine_type_count_the_legacy_way(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", count: int
) -> None:
    devices = [vfio.emulated("idle", **SMALL)] * count
    both = {"source_args": PROPERTY, "destination_args": PROPERTY}
    outcome = migration(**plan(machines.new(same_build), **both), devices=devices).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, count) == observed.LEGACY
    assert_counted_down(outcome, count)


def assert_counted_down(outcome: "Outcome", count: int) -> None:
    """One less with each approval, then the ack, which the source gets and decides."""
    assert counts(outcome) == list(range(count - 1, -1, -1))
    name = observed.approvals(outcome)[0].name
    approved = [
        ("destination", name, {"switchover_ack_pending_num": missing})
        for missing in range(count - 1, -1, -1)
    ]
    # The source traces the ack after it has taken it into account, maybe after its decision.
    for then in (observed.DECIDED, observed.ACKED):
        match_sequence(
            {"source": outcome.source.trace, "destination": outcome.destination.trace},
            [
                ("destination", "loadvm_process_command", {"com": "OPEN_RETURN_PATH"}),
                *approved,
                ("destination", "migrate_send_rp_message", {"type": observed.RP_SWITCHOVER_ACK}),
                ("source", then),
            ],
        )


@pytest.mark.parametrize("count", [1, 4])
def test_a_new_source_counts_its_devices_and_each_sends_its_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", count: int
) -> None:
    devices = [vfio.emulated("idle", **SMALL)] * count
    outcome = migration(**plan(machines.new(same_build)), devices=devices).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, count) == observed.NEW
    acked = outcome.source.trace.events(observed.ACKED)
    left = [int(event.args["switchover_ack_pending_num"]) for event in acked]
    assert left == list(range(count - 1, -1, -1))
    names = [f"vf{number}" for number in range(count)]
    assert [event.args["approver"] for event in observed.approvals(outcome)] == names
    acks = observed.story(outcome).acks
    assert [(ack.device, ack.why) for ack in acks] == [(name, "setup") for name in names]
    assert all(ack.given_us is not None for ack in acks)


@machines.of_each_kind
def test_however_long_a_device_is_loaded_switchover_waits(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """All that is left fits, time and again, and the source asks again and again."""
    device = vfio.emulated("idle", **SMALL, when=[HOLD])
    held = WhenHeld("destination", waiting.for_an_ack)
    machine = machines.TYPES[kind](same_build)
    wanted = migration(**plan(machine, trace=traced(same_build)), devices=[device])
    outcome = wanted.run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert outcome.completed, outcome
    assert assert_acked(outcome, 1) == kind
    (interval,) = [i for i in observed.story(outcome).intervals if i.why == "ack"][-1:]
    assert interval.devices == ("vf0",)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ["return-path"]], ids=["acks", "off"])
@machines.of_each_kind
def test_a_device_that_has_initial_data_left_at_the_source_has_no_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str, capabilities: list[str]
) -> None:
    """All of it would fit into the limit. Without acks QEMU does switch over then."""
    device = vfio.emulated("idle", initial="8M", stop_copy="64K", when=[OUTLASTS_THE_FIRST_WINDOW])
    wanted = plan(machines.TYPES[kind](same_build), trace=traced(same_build))
    wanted |= {"capabilities": capabilities, "parameters": {"avail-switchover-bandwidth": 10**10}}
    outcome = migration(**wanted, devices=[device]).run()
    assert outcome.completed, outcome
    sizes = list(observed.sizes(outcome))
    unread = [call.at for call in sizes if call.answer["initial_bytes"]]
    assert unread, "not reached: it was not asked while it had initial data left"
    if capabilities != CAPABILITIES:
        assert unread[-1] == sizes[-1].at
        assert observed.mechanism(outcome) == ""
        return
    assert sizes[-1].answer["initial_bytes"] == 0
    assert assert_acked(outcome, 1) == kind
    fitted = waiting.fitting(outcome.source.trace, until_us=unread[-1])
    assert fitted >= waiting.TIMES, "not reached: what was left did not fit"


def test_without_the_capability_nothing_waits_for_a_device_that_is_loaded(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The same device, the same hold: the source decides while the destination is held."""

    async def decided(run: "Run") -> None:
        trace = run.source.trace
        await trace.wait_for(observed.DECIDED, timeout=pending.DEADLINE_S, what="the decision")

    device = vfio.emulated("idle", **SMALL, when=[HOLD])
    held = WhenHeld("destination", decided)
    wanted = plan(machines.legacy(same_build)) | {"capabilities": ["return-path"]}
    outcome = migration(**wanted, devices=[device]).run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert outcome.completed, outcome
    assert observed.mechanism(outcome) == ""


@pytest.mark.parametrize("kind", [observed.LEGACY, observed.NEW])
def test_the_last_device_lets_go(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """Three of four are done. A new source has their acks by then, a legacy one has none."""
    sent: list[int] = []

    async def look(run: "Run") -> None:
        if kind == observed.NEW:
            await run.source.trace.wait_for(
                observed.ACKED, switchover_ack_pending_num=1, timeout=pending.DEADLINE_S
            )
        await waiting.for_an_ack(run)
        sent.append(run.source.trace.log.count(observed.ACKED))

    quick = vfio.emulated("idle", **SMALL)
    slow = vfio.emulated("idle", **LAST, when=[HOLD_LAST])
    machine = machines.TYPES[kind](same_build)
    held = WhenHeld("destination", look)
    wanted = migration(
        **plan(machine, trace=traced(same_build)), devices=[quick, quick, quick, slow]
    )
    outcome = wanted.run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert outcome.completed, outcome
    assert sent == [0 if kind == observed.LEGACY else 3]
    assert assert_acked(outcome, 4) == kind
    approvers = [e.args.get("approver") for e in observed.approvals(outcome)]
    assert approvers[-1] in ("vf3", None)  # 10.0 tells no names
