"""What goes together with the capability `switchover-ack`, on each build with both mechanisms.

| with | the acks |
|---|---|
| no `return-path` | it is refused |
| the capability at the source alone | the destination fails, or a legacy source waits for ever |
| at the destination alone | nobody waits; a legacy one may send one |
| a guest that was stopped | nobody waits |
| `multifd`, `pause-before-switchover`, `-S`, `exit-on-error=false` | as without |
| `postcopy-ram` | as without; with a VFIO device the migration is refused |
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed
from qmptests.suites.switchover_ack.counted import CAPABILITIES, RETURN_PATH, assert_acked
from qmptests.suites.switchover_ack.reinit import ReinitAfterAck, assert_reinits
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import said
from qmptests.suites.vfio.words import BLOCKERS, NO_USERFAULTFD
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

REFUSAL = "Capability 'switchover-ack' requires capability 'return-path'"
UNUSED = "Received INIT_DATA_SENT but switchover ack is not used"
SIDES = ("source", "destination")
#: For one that never ends, and for one that does.
NEVER_S, SOON_S = 1.5, 20.0


class Sets(Observer):
    """Sets capabilities on one side after those of the plan."""

    def __init__(self, side: str, **capabilities: bool) -> None:
        self.side = side
        self.capabilities = capabilities

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Set them, and keep that for `reproduce.sh`."""
        if phase is Phase.CONFIGURED:
            wanted = [
                {"capability": name.replace("_", "-"), "state": on}
                for name, on in self.capabilities.items()
            ]
            vm = run.source if self.side == "source" else run.destination
            await run.execute(vm, "migrate-set-capabilities", {"capabilities": wanted})


class Continues(Observer):
    """Waits until a destination that does not run has loaded everything, and has it run.

    `runstate`, `states`: its own and its devices' before.
    """

    def __init__(self) -> None:
        self.runstate = ""
        self.states: list[str] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Look, then `cont`."""
        if phase is not Phase.ENDED:
            return
        there = run.destination
        await there.monitor.expect(
            "MIGRATION",
            lambda data: data.get("status") == "completed",
            what="the destination to have loaded all",
            timeout=SOON_S,
        )
        self.runstate = await there.runstate()
        if there.emulation is not None:
            status = await there.emulation.request("status")
            self.states = [device["state"] for device in status["devices"]]
        await there.execute("cont")


class Stops(Observer):
    """Stops the guest before it is migrated."""

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Stop it."""
        if phase is Phase.READY:
            await run.execute(run.source, "stop")


def plan(vfio: "Vfio", build: "Build", kind: str, count: int = 1, **keys: Any) -> dict[str, Any]:
    """A migration of firmware and so many devices, on the machine type of that mechanism."""
    sizes = {"initial": "64K", "stop_copy": "64K"} | keys
    return {
        "vm": "none",
        "machine": machines.TYPES[kind](build),
        "devices": [vfio.emulated("idle", **sizes)] * count,
        "capabilities": CAPABILITIES,
        "timeout_s": SOON_S,
    }


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("before", "then"),
    [([], {"switchover_ack": True}), (CAPABILITIES, {"return_path": False})],
    ids=["set-without", "taken-away"],
)
@pytest.mark.usefixtures("same_build")
def test_it_needs_the_return_path(
    migration: "Migrate", side: str, before: list[str], then: dict[str, bool]
) -> None:
    """The acks come that way: neither can it be set without, nor the return path be cleared."""
    wanted = migration(vm="none", capabilities=before, expected=Result.QMP_ERROR)
    outcome = wanted.run(Sets(side, **then))
    assert outcome.as_expected, outcome
    assert outcome.record.error == f"{side}: migrate-set-capabilities: {REFUSAL}"
    assert outcome.record.source_ran_on


@machines.of_each_kind
def test_at_the_source_alone_a_device_fails_the_destination(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """It was not told, and refuses the mark that the device's initial data are there."""
    wanted = plan(vfio, same_build, kind) | {"capabilities": [RETURN_PATH]}
    wanted["expected"] = Result.FAILED_DESTINATION_EXITED
    outcome = migration(**wanted).run(Sets("source", switchover_ack=True))
    assert outcome.as_expected, outcome
    assert observed.on_the_wire(outcome) == 0
    assert UNUSED in said(outcome, "destination")
    assert outcome.record.source_ran_on


@machines.of_each_kind
def test_at_the_source_alone_without_precopy_the_legacy_one_waits_for_ever(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """It waits for one ack in any case, and nobody sends it; the new one waits for none."""
    legacy = kind == observed.LEGACY
    wanted = plan(vfio, same_build, kind, precopy=False, initial=0) | {
        "capabilities": [RETURN_PATH],
        "expected": Result.TIMED_OUT if legacy else Result.COMPLETED,
        "timeout_s": NEVER_S if legacy else SOON_S,
    }
    outcome = migration(**wanted).run(Sets("source", switchover_ack=True))
    assert outcome.as_expected, outcome
    assert observed.on_the_wire(outcome) == 0
    trace = outcome.source.trace
    # Being asked to quit, it decides nevertheless.
    quitting = trace.first("migrate_set_state", new_state="cancelling")
    window = trace.last("migrate_transferred", before=quitting)
    assert window, "not reached: it had no threshold yet"
    assert int(window.args["max_size"]) > 1 << 20, "not reached: what is left might be too much"
    assert (trace.count(observed.DECIDED, before=quitting) == 0) == legacy


@machines.of_each_kind
@pytest.mark.parametrize("count", [0, 1], ids=["no-device", "device"])
def test_at_the_destination_alone(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str, count: int
) -> None:
    """Devices have no mark to send then, so no approval comes of it, and nobody waits.

    A legacy destination with no device to wait for sends its ack all the same.
    """
    wanted = plan(vfio, same_build, kind, count) | {"capabilities": [RETURN_PATH]}
    outcome = migration(**wanted).run(Sets("destination", switchover_ack=True))
    assert outcome.completed, outcome
    acks = int(kind == observed.LEGACY and not count)
    assert (observed.on_the_wire(outcome), observed.arrived(outcome)) == (acks, acks)
    assert observed.approvals(outcome) == []


@machines.of_each_kind
def test_without_it_a_reinit_is_harmless(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """What it voided is sent again, and nobody acks."""
    wanted = plan(vfio, same_build, kind, when=["read+reinit=1M"])
    outcome = migration(**wanted | {"capabilities": [RETURN_PATH]}).run()
    assert outcome.completed, outcome
    assert observed.mechanism(outcome) == ""
    assert observed.on_the_wire(outcome) == 0
    reinits = len(observed.reinits(outcome))
    assert reinits == observed.opted_in(outcome.source.trace), "not reached: no REINIT"
    (device,) = outcome.source.record.devices
    late = [
        chunk.bytes
        for chunk in device.sent
        if (chunk.kind, chunk.generation) == (("initial", 1) if reinits else ("dirty", 0))
    ]
    assert late == [1 << 20]


@machines.of_each_kind
def test_a_device_of_a_stopped_guest_has_no_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """It is not put into PRE_COPY, and sends all at once; the source does not wait for it."""
    outcome = migration(**plan(vfio, same_build, kind)).run(Stops(), Continues())
    assert outcome.completed, outcome
    assert observed.mechanism(outcome) == kind
    assert observed.on_the_wire(outcome) == 0
    assert observed.decisions(outcome) == 1
    assert "pre-copy" not in asked.states(outcome)


@machines.of_each_kind
def test_a_source_whose_guest_is_stopped_does_not_wait(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """It decides while the destination still holds the ack of a device back.

    Over TCP: what it sends meanwhile, pass by pass, is more than a UNIX socket takes.
    """

    async def stop(run: "Run") -> None:
        await run.execute(run.source, "stop")
        await run.source.trace.wait_for(observed.DECIDED, timeout=5)

    held, there = WhenHeld("destination", stop), Continues()
    wanted = plan(vfio, same_build, kind, when=["write+hold+side=destination"])
    outcome = migration(**wanted, transport="tcp").run(held, there)
    assert outcome.completed, outcome
    assert (held.count, there.runstate) == (1, "paused")
    assert observed.mechanism(outcome) == kind
    assert observed.on_the_wire(outcome) == 1
    in_order(
        outcome,
        ("source", observed.DECIDED),
        ("destination", "migrate_send_rp_message", {"type": observed.RP_SWITCHOVER_ACK}),
    )


@machines.of_each_kind
def test_without_a_device_a_legacy_destination_acks_at_once(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """As soon as it has the return path; with the new mechanism nobody is asked."""
    outcome = migration(**plan(vfio, same_build, kind, 0)).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, 0) == kind
    if kind == observed.LEGACY:
        in_order(
            outcome,
            ("destination", "loadvm_process_command", {"com": "OPEN_RETURN_PATH"}),
            ("destination", "migrate_send_rp_message", {"type": observed.RP_SWITCHOVER_ACK}),
            ("destination", "loadvm_process_command", {"com": "PING"}),
        )


@machines.of_each_kind
def test_with_multifd_the_threads_begin_after_the_last_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """Initial data take the main channel, new ones as well; only stop-copy data take the others.

    Little of it, all in all: see docs/findings/vfio-multifd-deadlock.md.
    """
    reinit = ReinitAfterAck("vf0", "vf1", sizes=[16 << 10] * 2)
    wanted = plan(vfio, same_build, kind, 2, announce="16K")
    outcome = migration(**wanted | {"capabilities": [*CAPABILITIES, "multifd"]}).run(reinit)
    assert outcome.completed, outcome
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 2, reinits=2 * reinit.opted_in) == kind
    in_order(
        outcome,
        ("source", observed.DECIDED),
        *[("source", "vfio_save_complete_precopy_thread_start")] * 2,
    )


def postcopy(
    migration: "Migrate", vfio: "Vfio", build: "Build", kind: str, count: int, expected: Result
) -> "Outcome":
    """With `postcopy-ram`, which is not started; skips where it can't be had."""
    wanted = plan(vfio, build, kind, count) | {"capabilities": [*CAPABILITIES, "postcopy-ram"]}
    outcome = migration(**wanted, expected=expected).run()
    for refusal in NO_USERFAULTFD:
        if refusal in outcome.record.error:
            pytest.skip(f"this user can't use userfaultfd(2) here: {outcome.record.error}")
    assert outcome.as_expected, outcome
    return outcome


@machines.of_each_kind
def test_with_postcopy_a_device_is_refused(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """Its state can't come afterwards; that postcopy is only allowed is enough."""
    outcome = postcopy(migration, vfio, same_build, kind, 1, Result.QMP_ERROR)
    version, error = same_build.facts.version, outcome.record.error
    names = asked.labels("vf0")
    assert any(BLOCKERS.find("postcopy", [error], version, name) for name in names), error
    assert outcome.record.source_ran_on


@machines.of_each_kind
def test_with_postcopy_and_no_device_it_is_as_without(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    outcome = postcopy(migration, vfio, same_build, kind, 0, Result.COMPLETED)
    assert assert_acked(outcome, 0) == kind


@machines.of_each_kind
def test_a_destination_that_was_started_stopped_acks(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """As libvirt starts it, with `-S`: the device is in RESUMING until `cont`."""
    there = Continues()
    wanted = plan(vfio, same_build, kind, 2)
    outcome = migration(**wanted, destination_args=("-S",)).run(there)
    assert outcome.completed, outcome
    assert (there.runstate, there.states) == ("paused", ["resuming", "resuming"])
    assert assert_acked(outcome, 2) == kind


@machines.of_each_kind
def test_it_pauses_before_the_switchover_after_the_acks(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """The pause belongs to the switchover: until the acks are there it does not come."""
    wanted = plan(vfio, same_build, kind, 2)
    wanted["capabilities"] = [*CAPABILITIES, "pause-before-switchover"]
    outcome = migration(**wanted).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, 2) == kind
    in_order(
        outcome,
        ("source", observed.DECIDED),
        ("source", "migrate_set_state", {"new_state": "pre-switchover"}),
        ("destination", "loadvm_process_command", {"com": "SWITCHOVER_START"}),
    )


@machines.of_each_kind
def test_a_destination_that_is_not_to_exit_acks(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    outcome = migration(**plan(vfio, same_build, kind, 2), exit_on_error=False).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, 2) == kind


@machines.of_each_kind
def test_a_destination_that_is_not_to_exit_tells_why_it_could_not_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """It was not told of the acks, and is still there to be asked; its device has stayed."""
    wanted = plan(vfio, same_build, kind) | {
        "capabilities": [RETURN_PATH],
        "expected": Result.FAILED_DESTINATION_ALIVE,
    }
    alone = Sets("source", switchover_ack=True)
    outcome = migration(**wanted, exit_on_error=False).run(alone)
    assert outcome.as_expected, outcome
    there = outcome.destination.record
    assert there.migration["status"] == "failed"
    assert there.migration["error-desc"].startswith("load of migration failed: Invalid argument")
    assert UNUSED in said(outcome, "destination")
    assert asked.states(outcome, "destination")[-1] == "resuming"
    assert outcome.record.source_ran_on


def in_order(outcome: "Outcome", *steps: Any) -> None:
    """That these came one after the other, each as often as it is named at least."""
    sides = {"source": outcome.source.trace, "destination": outcome.destination.trace}
    match_sequence(sides, steps)
