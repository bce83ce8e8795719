"""Two sides with different mechanisms of acks, which a machine type never has, and a property may.

| source | destination | devices that owe an ack | the migration |
|---|---|---|---|
| either | either | one, without REINIT | completes |
| new | legacy | none | never ends: an ack for all came, and none was owed |
| new | legacy | one, with REINIT | fails: the destination has approved all it counted |
| new | legacy | two | never ends: one ack came, and two are owed |
| legacy | new | none | never ends: no ack comes |
| legacy | new | two | fails by the second ack, after switchover: both guests run |
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed, waiting
from qmptests.suites.switchover_ack.counted import CAPABILITIES
from qmptests.suites.switchover_ack.reinit import NEVER, TIMEOUT_S, ReinitAfterAck
from qmptests.suites.vfio.attempts import gives_up_soon, said

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
SIDES = ("source", "destination")
UNDERFLOW = "Switchover ack pending num underflowed"
REFUSED = "qemu_loadvm_approve_switchover failed, err=-22"
SMALL = {"initial": "64K", "stop_copy": "64K"}
#: The source has sent everything, and waits for the destination's word on the return path.
ALL_SENT = "migration_return_path_end_before"


def plan(build: "Build", legacy: str, devices: list[Any], **more: Any) -> dict[str, Any]:
    """With the legacy mechanism on one side alone."""
    wanted: dict[str, Any] = {"vm": "none", "machine": machines.new(build), "devices": devices}
    wanted |= {f"{legacy}_args": PROPERTY, "capabilities": CAPABILITIES}
    return wanted | {"timeout_s": TIMEOUT_S} | more


def counters(outcome: "Outcome") -> list[int]:
    """How many acks the source took to be missing after each that it got."""
    acked = outcome.source.trace.events(observed.ACKED)
    return [int(event.args["switchover_ack_pending_num"]) for event in acked]


@pytest.mark.parametrize("legacy", SIDES)
def test_one_device_that_asks_once_is_acked_once_either_way(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", legacy: str
) -> None:
    devices = [vfio.emulated("idle", **SMALL)]
    outcome = migration(**plan(same_build, legacy, devices)).run()
    assert outcome.completed, outcome
    assert (observed.on_the_wire(outcome), counters(outcome)) == (1, [0])


@pytest.mark.parametrize("legacy", SIDES)
@pytest.mark.parametrize("count", [0, 1], ids=["none", "no-precopy"])
def test_where_no_ack_is_owed_none_can_be_right(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", legacy: str, count: int
) -> None:
    """A legacy source waits for one all the same. A legacy destination sends one all the same."""
    devices = [vfio.emulated("no-precopy", stop_copy="64K")] * count
    wanted = migration(**plan(same_build, legacy, devices, expected=Result.TIMED_OUT))
    outcome = gives_up_soon(wanted).run()
    assert outcome.as_expected, outcome
    assert outcome.record.source_ran_on
    errors = [event.args["error"] for event in outcome.source.trace.events("migrate_error")]
    if legacy == "source":
        assert (observed.on_the_wire(outcome), counters(outcome)) == (0, [])
    else:
        assert (observed.on_the_wire(outcome), counters(outcome)) == (1, [(1 << 32) - 1])
        assert UNDERFLOW in errors


def test_a_legacy_destination_refuses_to_approve_again(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """So a REINIT of a new source, which asks for another ack, ends the migration."""
    devices = [vfio.emulated("idle", **SMALL)]
    wanted = plan(same_build, "destination", devices, expected=Result.FAILED_DESTINATION_EXITED)
    outcome = migration(**wanted).run(ReinitAfterAck("vf0"))
    assert outcome.as_expected, outcome
    assert outcome.source.trace.count(observed.ASKED_AGAIN) == 1, "not reached: no REINIT"
    assert f"vf0: {REFUSED}" in said(outcome, "destination")
    assert observed.on_the_wire(outcome) == 1
    assert outcome.record.source_ran_on


def test_a_new_source_waits_for_ever_for_two_acks_of_a_legacy_destination(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    devices = [vfio.emulated("idle", **SMALL)] * 2
    wanted = migration(**plan(same_build, "destination", devices, expected=Result.TIMED_OUT))
    outcome = gives_up_soon(wanted).run()
    assert outcome.as_expected, outcome
    assert (observed.on_the_wire(outcome), counters(outcome)) == (1, [1])
    assert len(observed.approvals(outcome)) == 2
    assert outcome.record.source_ran_on


def test_the_second_ack_after_switchover_has_both_guests_run(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The first ack lets the legacy source go. It sends everything; the destination will run.

    Then the second ack comes, the source takes it for an error of the migration, and runs on. The
    destination is held at the second device's data until the source has sent everything.
    """

    async def all_sent(run: "Run") -> None:
        await run.source.trace.wait_for(ALL_SENT, timeout=TIMEOUT_S)

    first = vfio.emulated("idle", initial="64K")
    late = (1 << 20) + (4 << 10)
    rule = f"write+hold+side=destination+after_bytes={1 << 20}"
    second = vfio.emulated("idle", initial=late, when=[rule])
    wanted = plan(same_build, "source", [first, second], vm=waiting.QUIET, transport="tcp")
    wanted["trace"] = (ALL_SENT,)
    held = WhenHeld("destination", all_sent)
    outcome = migration(**wanted, expected=Result.BOTH_RUNNING).run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert outcome.as_expected, outcome
    assert (observed.on_the_wire(outcome), counters(outcome)) == (2, [0, (1 << 32) - 1])
    assert UNDERFLOW in said(outcome, "source")
    assert outcome.record.attempts[0].status == "failed"


class WaitsForAcks(Observer):
    """Keeps switchover shut until so many acks have come, and opens it."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Shut it before the migration."""
        if phase is Phase.READY:
            await run.execute(run.source, "migrate-set-parameters", NEVER)
        elif phase is Phase.ACTIVE:
            await run.source.trace.wait_for_count(observed.ACKED, self.count, timeout=TIMEOUT_S)


def test_the_second_ack_before_switchover_never_lets_go(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    devices = [vfio.emulated("idle", **SMALL)] * 2
    wanted = migration(**plan(same_build, "source", devices, expected=Result.TIMED_OUT))
    outcome = gives_up_soon(wanted).run(WaitsForAcks(2))
    assert outcome.as_expected, outcome
    assert counters(outcome) == [0, (1 << 32) - 1]
    assert outcome.record.source_ran_on
