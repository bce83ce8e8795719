"""The two sides have different mechanisms of acks: what comes of it, by how many devices owe one.

| devices with precopy | new source, legacy destination | legacy source, new destination |
|---|---|---|
| none | an ack that nobody asked for underflows: never | no ack: never |
| one | completes; after a REINIT the load fails | completes |
| two | one ack for both: never | the second underflows: never, or both guests run |
| any, without the capability | completes | completes |

"Never": the source waits for an ack until someone cancels. Both guests run where the first ack has
let the source go by the time that the second comes. A machine type pins the mechanism of both
sides: it takes a property on one of them to come to that.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed, pending, waiting
from qmptests.suites.switchover_ack.counted import CAPABILITIES, RETURN_PATH
from qmptests.suites.switchover_ack.reinit import NEVER, USUAL, ReinitAfterAck, assert_reinits
from qmptests.suites.vfio.attempts import said
from qmptests.trace import match_sequence
from qmptests.vm import Definition

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

UNDERFLOW = "Switchover ack pending num underflowed"
TOO_MANY = "qemu_loadvm_approve_switchover failed, err=-22 (Invalid argument)"
#: What a counter of 32 bits has after one ack too many.
WRAPPED = (1 << 32) - 1
#: The source has sent all, and waits for the destination to end the return path.
ALL_SENT = "migration_return_path_end_before"
#: A guest that counts and writes little: while its destination is held, all fits into a socket.
QUIET = Definition(memory="64M", guest={"kind": "dirtier", "length": "16K", "rate": "16K"})
HOLD = "write+hold+side=destination"
SIDES = pytest.mark.parametrize("legacy", ["source", "destination"])


def plan(build: "Build", legacy: str, *devices: "DeviceProfile", **more: Any) -> dict[str, Any]:
    """A migration of firmware with a new machine type, which one side takes the legacy way."""
    wanted: dict[str, Any] = {"vm": "none", "machine": machines.new(build), "devices": devices}
    wanted |= {f"{legacy}_args": ("-global", f"{machines.LEGACY}=on")}
    return wanted | {"capabilities": CAPABILITIES, "timeout_s": 20.0} | more


def precopy(vfio: "Vfio", **more: Any) -> "DeviceProfile":
    """A device that owes an ack."""
    return vfio.emulated("idle", initial="64K", stop_copy="64K", **more)


def no_precopy(vfio: "Vfio") -> "DeviceProfile":
    """One that owes none."""
    return vfio.emulated("no-precopy", stop_copy="64K")


def there(legacy: str) -> str:
    """The mechanism of the destination, which is the one that can be observed."""
    return observed.LEGACY if legacy == "destination" else observed.NEW


def counted(outcome: "Outcome") -> list[int]:
    """How many acks the source took to be missing after each that it got."""
    events = outcome.source.trace.events(observed.ACKED)
    return [int(event.args["switchover_ack_pending_num"]) for event in events]


class Never(Observer):
    """Waits for the acks that come, proves that the source waits for another, and cancels it.

    `missing`: what it counts after the last that comes, None if none does. `shut`: until that
    nothing fits. `info`: what QEMU says of it while it waits.
    """

    def __init__(self, missing: int | None = None, *, shut: bool = False) -> None:
        self.missing = missing
        self.shut = shut
        self.info: dict[str, Any] = {}

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Shut it before the migration; look and cancel in precopy."""
        source = run.source
        if phase is Phase.READY and self.shut:
            await run.execute(source, "migrate-set-parameters", NEVER)
        elif phase is Phase.ACTIVE:
            if self.missing is not None:
                await source.trace.wait_for(
                    observed.ACKED,
                    switchover_ack_pending_num=self.missing,
                    timeout=pending.DEADLINE_S,
                    what="the last ack that comes",
                )
            if self.shut:
                await run.execute(source, "migrate-set-parameters", USUAL)
            await waiting.for_an_ack(run)
            self.info = await source.execute("query-migrate")
            await source.execute("migrate_cancel")


def assert_never(migration: "Migrate", wanted: dict[str, Any], never: Never) -> "Outcome":
    """That it waits for ever, that QEMU calls that active, and that a cancelled source runs on."""
    outcome = migration(**wanted, trace=(pending.QUERY,), expected=Result.CANCELLED).run(never)
    assert outcome.as_expected, outcome
    assert never.info["status"] == "active"
    assert outcome.record.source_ran_on
    return outcome


@SIDES
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "and-one-without"])
def test_one_device_that_asks_once_is_acked_once_either_way(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", legacy: str, others: int
) -> None:
    """One ack is sent and one expected, whoever counts; one without precopy changes nothing."""
    devices = [precopy(vfio), *[no_precopy(vfio)] * others]
    outcome = migration(**plan(same_build, legacy, *devices)).run()
    assert outcome.completed, outcome
    assert observed.mechanism(outcome) == there(legacy)
    assert (observed.on_the_wire(outcome), counted(outcome)) == (1, [0])


@pytest.mark.parametrize("exits", [True, False], ids=["exits", "stays"])
def test_a_legacy_destination_refuses_to_approve_again(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", exits: bool
) -> None:
    """It approves each device once. Its standard error alone says so, no answer of QMP does."""
    end = Result.FAILED_DESTINATION_EXITED if exits else Result.FAILED_DESTINATION_ALIVE
    wanted = plan(same_build, "destination", precopy(vfio), exit_on_error=exits, expected=end)
    outcome = migration(**wanted).run(ReinitAfterAck("vf0"))
    assert outcome.as_expected, outcome
    assert observed.mechanism(outcome) == observed.LEGACY
    assert outcome.source.trace.count(observed.ASKED_AGAIN) == 1, "not reached: no REINIT"
    assert (observed.on_the_wire(outcome), counted(outcome)) == (1, [0])
    assert observed.decisions(outcome) == 0
    assert outcome.record.source_ran_on
    assert f"vf0: {TOO_MANY}" in said(outcome, "destination")
    for side in (outcome.source.record, outcome.destination.record):
        assert "approve" not in side.migration.get("error-desc", "")


def test_a_new_source_waits_for_ever_for_two_acks_of_a_legacy_destination(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """A legacy destination has sent one for both. Nothing that QEMU says names the cause."""
    never = Never(1)
    wanted = plan(same_build, "destination", precopy(vfio), precopy(vfio))
    outcome = assert_never(migration, wanted, never)
    assert observed.mechanism(outcome) == observed.LEGACY
    assert len(observed.approvals(outcome)) == 2
    assert (observed.on_the_wire(outcome), counted(outcome)) == (1, [1])
    assert "error-desc" not in never.info


@SIDES
@pytest.mark.parametrize("count", [0, 1], ids=["no-device", "no-precopy"])
def test_where_no_ack_is_owed_none_can_be_right(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", legacy: str, count: int
) -> None:
    """A legacy source waits for one all the same. A legacy destination sends one all the same.

    After one too many a source waits for 2^32 - 1 more. Its return path has ended with an error,
    which is kept, and which nobody who waits looks at.
    """
    came, error = ([], None) if legacy == "source" else ([WRAPPED], UNDERFLOW)
    never = Never(*came)
    wanted = plan(same_build, legacy, *[no_precopy(vfio)] * count)
    outcome = assert_never(migration, wanted, never)
    assert observed.mechanism(outcome) == there(legacy)
    assert (observed.on_the_wire(outcome), counted(outcome)) == (len(came), came)
    assert never.info.get("error-desc") == error


def test_the_second_ack_before_switchover_never_lets_go(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The first would have let it go; with the second it waits for 2^32 - 1 more."""
    never = Never(WRAPPED, shut=True)
    outcome = assert_never(
        migration, plan(same_build, "source", precopy(vfio), precopy(vfio)), never
    )
    assert observed.mechanism(outcome) == observed.NEW
    assert (observed.on_the_wire(outcome), counted(outcome)) == (2, [0, WRAPPED])
    assert never.info["error-desc"] == UNDERFLOW


async def all_sent(run: "Run") -> None:
    """Wait until the source has nothing left to do but to hear the end from the destination."""
    await run.source.trace.wait_for(ALL_SENT, timeout=pending.DEADLINE_S, what="all to be sent")


def test_the_second_ack_after_switchover_has_both_guests_run(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination has all of it and starts; the source calls the ack a failure, and goes on.

    The destination is held at the second device's data until the source has sent everything.
    """
    wanted = plan(same_build, "source", precopy(vfio), precopy(vfio, when=[HOLD]), vm=QUIET)
    wanted |= {"transport": "tcp", "trace": (ALL_SENT,), "expected": Result.BOTH_RUNNING}
    held = WhenHeld("destination", all_sent)
    outcome = migration(**wanted).run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert outcome.as_expected, outcome
    assert observed.mechanism(outcome) == observed.NEW
    assert (observed.on_the_wire(outcome), counted(outcome)) == (2, [0, WRAPPED])
    assert outcome.record.attempts[0].status == "failed"
    assert outcome.record.attempts[0].error == UNDERFLOW
    assert UNDERFLOW in said(outcome)
    assert outcome.record.source_ran_on
    assert outcome.destination.record.migration["status"] == "completed"
    steps: list[Any] = [
        ("source", observed.ACKED, {"switchover_ack_pending_num": 0}),
        ("source", observed.DECIDED),
        ("source", ALL_SENT),
        ("destination", observed.APPROVED, {"approver": "vf1"}),
        ("destination", "migrate_set_state", {"new_state": "completed"}),
    ]
    sides = {"source": outcome.source.trace, "destination": outcome.destination.trace}
    match_sequence(sides, steps)


def test_a_legacy_source_asks_nobody_again(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """It marks a device's initial data once, REINIT or not, and a new destination acks marks."""
    reinit = ReinitAfterAck("vf0")
    outcome = migration(**plan(same_build, "source", precopy(vfio))).run(reinit)
    assert outcome.completed, outcome
    assert_reinits(outcome, reinit)
    assert observed.mechanism(outcome) == observed.NEW
    assert (observed.on_the_wire(outcome), counted(outcome)) == (1, [0])


@SIDES
@pytest.mark.parametrize("count", [0, 2], ids=["no-device", "reinits"])
def test_without_acks_the_mechanisms_do_not_matter(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", legacy: str, count: int
) -> None:
    """Nobody counts and nobody acks, however often a device would have to be asked again."""
    devices = [precopy(vfio, when=["read+reinit=64K"])] * count
    wanted = plan(same_build, legacy, *devices, capabilities=[RETURN_PATH])
    outcome = migration(**wanted).run()
    assert outcome.completed, outcome
    assert observed.mechanism(outcome) == ""
    assert observed.on_the_wire(outcome) == 0
    for number in range(count):
        assert observed.reinits(outcome, f"vf{number}"), "not reached: no REINIT"


def between(migration: "Migrate", vfio: "Vfio", *, new: str, **more: Any) -> "Migration":
    """Two devices, and a legacy machine type of which that side, alone, is told to be new.

    Skips where the builds are not of the kinds that this takes.
    """
    wanted = migration(
        vm="none",
        devices=[precopy(vfio), precopy(vfio, when=[HOLD] if new == "destination" else [])],
        capabilities=CAPABILITIES,
        timeout_s=20.0,
        **{f"{new}_args": ("-global", f"{machines.LEGACY}=off")},
        **more,
    )
    builds = {"source": wanted.plan.source, "destination": wanted.plan.destination}
    both = {side for side, build in builds.items() if _knows_both(build)}
    if both != {new}:
        pytest.skip(f"only where the {new} alone knows both mechanisms")
    machine = machines.legacy(*builds.values())
    return replace(wanted, plan=replace(wanted.plan, machine=machine))


def _knows_both(build: "Build") -> bool:
    """Whether a build has a name for the legacy mechanism, which the new one takes apart."""
    return observed.APPROVED_LEGACY in build.facts.trace_events


@pytest.mark.usefixtures("cell")
def test_an_older_destination_sends_a_new_source_one_ack_for_both(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """As a destination does that has the property."""
    wanted = between(
        migration, vfio, new="source", trace=(pending.QUERY,), expected=Result.CANCELLED
    )
    outcome = wanted.run(Never(1))
    assert outcome.as_expected, outcome
    assert outcome.record.source_ran_on
    assert observed.mechanism(outcome) == observed.LEGACY
    assert (observed.on_the_wire(outcome), counted(outcome)) == (1, [1])


@pytest.mark.usefixtures("cell")
def test_an_older_source_does_not_count_and_goes_at_the_first_ack(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """The second device is not loaded by then. It has nothing that underflows: nobody notices."""
    held = WhenHeld("destination", all_sent)
    wanted = between(migration, vfio, new="destination", trace=(ALL_SENT,), transport="tcp")
    outcome = wanted.run(held)
    assert held.count == 1, "not reached: the destination was not held"
    assert outcome.completed, outcome
    assert observed.mechanism(outcome) == observed.NEW
    assert (observed.on_the_wire(outcome), observed.arrived(outcome)) == (2, 2)
    steps: list[Any] = [
        ("source", observed.DECIDED),
        ("source", ALL_SENT),
        ("destination", observed.APPROVED, {"approver": "vf1"}),
    ]
    sides = {"source": outcome.source.trace, "destination": outcome.destination.trace}
    match_sequence(sides, steps)
