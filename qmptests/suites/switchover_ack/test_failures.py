"""What fails while an ack is missing, or asked for too late: the source runs on, and tries again.

After each of these the guest runs at the source, its devices are RUNNING, a second migration of the
same source succeeds, and the error of the first says why.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed, pending, waiting
from qmptests.suites.switchover_ack.counted import CAPABILITIES, assert_acked
from qmptests.suites.switchover_ack.reinit import NEVER, TIMEOUT_S, USUAL
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import SecondAttempt, gave_up, said
from qmptests.vfio import when

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

SMALL = {"initial": "64K", "stop_copy": "64K"}
HOLD = "write+hold+side=destination"
TOO_LATE = "Switchover ACK was requested by {} devices during switchover"
FINAL = "precopy-info:final+{}"
CANT_ASK = "warning: VFIO device vf0 ioctl(VFIO_MIG_GET_PRECOPY_INFO) failed (-5)"
REFUSED = "Failed setting device state to RUNNING_P2P. Recover state is ERROR. Resetting device: "
#: What a source says of a connection that is gone; which one is a matter of what it did just then.
BROKEN = ("Connection reset by peer", "Broken pipe", "Channel error: Input/output error")
YANK = {"instances": [{"type": "migration"}]}


def plan(machine: str, *devices: Any, **more: Any) -> dict[str, Any]:
    """A migration that is tried again, by TCP: a source whose destination is held goes on."""
    wanted: dict[str, Any] = {"machine": machine, "devices": list(devices), "retries": 1}
    wanted["vm"] = waiting.QUIET
    wanted |= {"capabilities": CAPABILITIES, "transport": "tcp", "timeout_s": TIMEOUT_S}
    return wanted | more


def assert_second(outcome: "Outcome", second: SecondAttempt, *statuses: str) -> str:
    """That the first attempt ended so, or failed, and the second arrived; the first one's error."""
    assert second.count == 1, "not reached: the first attempt did not fail"
    assert outcome.completed, outcome
    first, last = outcome.record.attempts
    assert first.status in (statuses or ("failed",))
    assert last.status == "completed"
    for device in outcome.destination.record.devices:
        assert device.arrival
        assert device.arrival.problem == ""
    return first.error


@pytest.mark.parametrize("count", [1, 2])
def test_an_ack_that_is_asked_for_during_switchover(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", count: int
) -> None:
    """The device is asked for the last time when the VM stops; no ack can come any more."""
    device = vfio.emulated("idle", **SMALL, when=[FINAL.format("reinit=1M")])
    second = SecondAttempt()
    wanted = plan(machines.new(same_build), *[device] * count)
    outcome = migration(**wanted).run(second)
    assert assert_second(outcome, second) == TOO_LATE.format(count)
    decided = outcome.source.trace.first(observed.DECIDED)
    assert decided
    for number in range(count):
        assert_at_the_final_check(outcome, f"vf{number}", decided.time_us or 0)
    walked = asked.states(outcome)
    assert walked[2:6] == ["pre-copy", "pre-copy-p2p", "stop-copy", "running"]
    assert gave_up(outcome.record.destinations[0])


def assert_at_the_final_check(outcome: "Outcome", device: str, decided: int) -> None:
    """That its one REINIT was between the decision and the device's leaving precopy."""
    (reinit,) = observed.reinits(outcome, device)
    log = asked.calls(outcome).calls("set-state", device)
    left = next(call.at for call in log if call.with_["state"] == "pre-copy-p2p")
    assert decided <= reinit.at <= left, "not reached: it was not at the final check"


def test_a_device_that_cannot_be_asked_during_switchover(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Whether it has a REINIT is not known then: QEMU takes it to have one."""
    device = vfio.emulated("idle", **SMALL, when=[FINAL.format("errno=EIO")])
    second = SecondAttempt()
    outcome = migration(**plan(machines.new(same_build), device)).run(second)
    assert assert_second(outcome, second) == TOO_LATE.format(1)
    assert "vf0: Final precopy reinit check failed (err: -5)" in said(outcome, "source")


class Mended(SecondAttempt):
    """The source's devices answer again before the second attempt."""

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Take their rules back."""
        await super().reached(phase, run)
        if phase is Phase.CONFIGURED and run.attempts:
            assert run.source.emulation is not None
            for device in run.source.emulation.devices:
                await run.source.emulation.request("unrule", device.name, number=1)


def test_a_device_that_can_never_be_asked_fails_at_the_last_question_only(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Of all before that there is one warning; its ack came, and the source decided to go."""
    device = vfio.emulated("idle", **SMALL, when=["precopy-info+errno=EIO+times=0"])
    second = Mended()
    outcome = migration(**plan(machines.new(same_build), device)).run(second)
    assert assert_second(outcome, second) == TOO_LATE.format(1)
    words = said(outcome)
    assert words.count(CANT_ASK) == 1
    assert words.count("vf0: Final precopy reinit check failed (err: -5)") == 1
    trace = outcome.source.trace
    acked, decided = (trace.first(name) for name in (observed.ACKED, observed.DECIDED))
    assert acked
    assert decided
    assert (acked.time_us or 0) <= (decided.time_us or 0)


def test_with_the_legacy_mechanism_it_is_of_no_concern(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """No last question, no failure: all data are read until there are no more."""
    device = vfio.emulated("idle", **SMALL, when=["precopy-info+errno=EIO+times=0"])
    machine = machines.legacy(same_build)
    outcome = migration(**plan(machine, device, retries=0)).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, 1) == observed.LEGACY
    assert (CANT_ASK in said(outcome)) == pending.has_the_fixes(same_build)


@machines.of_each_kind
def test_a_question_in_precopy_that_fails_is_asked_again(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """It is no request for an ack, and costs nothing but a warning."""
    if not pending.has_the_fixes(same_build):
        pytest.skip("it asks when it sets up, and once more, or not, just before it switches over")

    async def fail_once(run: "Run") -> None:
        emulation = run.source.emulation
        assert emulation is not None
        await run.source.trace.wait_for(observed.ACKED, timeout=TIMEOUT_S, what="the ack")
        mark = emulation.events.mark
        await emulation.add_rule("vf0", when.parse("precopy-info+errno=EIO").rule())
        await emulation.expect("fired", what="a question", timeout=TIMEOUT_S, since=mark)
        await run.execute(run.source, "migrate-set-parameters", USUAL)

    act = pending.WhileActive(fail_once)
    device = vfio.emulated("idle", **SMALL)
    wanted = plan(machines.TYPES[kind](same_build), device, retries=0, parameters=NEVER)
    outcome = migration(**wanted).run(act)
    assert act.count == 1
    assert outcome.completed, outcome
    assert assert_acked(outcome, 1) == kind
    assert CANT_ASK in said(outcome)


@machines.of_each_kind
def test_an_ack_says_nothing_of_a_device_that_refuses_its_data_in_the_end(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """Both sides have completed, and the guest runs: docs/findings/vfio-faults.md."""
    there = vfio.emulated("idle", **SMALL, when=["set-state:running-p2p+errno=EIO"])
    wanted = plan(machines.TYPES[kind](same_build), vfio.emulated("idle", **SMALL), retries=0)
    wanted |= {"destination_devices": [there], "expected": Result.DEVICE_DATA_WRONG}
    outcome = migration(**wanted).run()
    assert outcome.as_expected, outcome
    assert "reset before it ran, all that it was given is lost" in outcome.record.error
    assert assert_acked(outcome, 1) == kind
    assert [attempt.status for attempt in outcome.record.attempts] == ["completed"]
    side = outcome.destination.record
    assert side.migration["status"] == "completed"
    assert side.runstate == "running"
    lines = said(outcome, "destination").splitlines()
    (sign,) = (line for line in lines if "warning: " not in line and "terminating on" not in line)
    assert REFUSED in sign


class Continues(Observer):
    """Sends `migrate-continue` in pre-switchover; `statuses`: what was said just before."""

    def __init__(self) -> None:
        self.statuses: list[str] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Each time it gets there."""
        if phase is Phase.PRE_SWITCHOVER:
            info = await run.source.execute("query-migrate")
            self.statuses.append(info["status"])


def test_with_a_pause_before_switchover_it_fails_after_the_pause(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The management is told that all is well, does its part, and then hears that it is not."""
    device = vfio.emulated("idle", **SMALL, when=[FINAL.format("reinit=1M")])
    second, pauses = SecondAttempt(), Continues()
    capabilities = [*CAPABILITIES, "pause-before-switchover"]
    wanted = plan(machines.new(same_build), device, capabilities=capabilities)
    outcome = migration(**wanted).run(second, pauses)
    assert assert_second(outcome, second) == TOO_LATE.format(1)
    assert pauses.statuses == ["pre-switchover"] * 2


class WhileWaiting(WhenHeld):
    """Does something to a source that is proven to wait for an ack, which the destination holds."""

    def __init__(self, do: "Callable[[Run], Any]") -> None:
        super().__init__("destination", self._act)
        self.do = do

    async def _act(self, run: "Run") -> None:
        await waiting.for_an_ack(run)
        await self.do(run)


def traced(build: "Build") -> tuple[str, ...]:
    """What tells how much the source takes to be left, by version."""
    return tuple(name for name in waiting.EXACT if name in build.facts.trace_events)[:1]


async def cancel(run: "Run") -> None:
    """`migrate_cancel`."""
    await run.source.execute("migrate_cancel")


async def yank(run: "Run") -> None:
    """Break the connection, and the return path with it."""
    await run.source.execute("yank", YANK)


@machines.of_each_kind
@pytest.mark.parametrize("do", [cancel, yank], ids=["cancelled", "connection-lost"])
def test_while_it_waits_for_the_ack(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str, do: "Callable[[Run], Any]"
) -> None:
    """The device goes from PRE_COPY straight to RUNNING; the second migration has its ack."""
    device = vfio.emulated("idle", **SMALL, when=[HOLD])
    waits, second = WhileWaiting(do), SecondAttempt()
    machine = machines.TYPES[kind](same_build)
    outcome = migration(**plan(machine, device, trace=traced(same_build))).run(waits, second)
    assert waits.count == 1, "not reached: the destination was not held"
    statuses = ["failed"] if do is yank else ["cancelled"]
    if not pending.has_the_fixes(same_build):
        statuses.append("failed")  # of the cancel and the failure that it causes, one is first
    assert_never_left(outcome, assert_second(outcome, second, *statuses))


def assert_never_left(outcome: "Outcome", error: str) -> None:
    """That the first attempt had no ack and no switchover; its connection was the cause."""
    assert any(cause in error for cause in BROKEN), error
    assert asked.states(outcome)[2:5] == ["pre-copy", "running", "pre-copy"]
    assert observed.arrived(outcome) == 1, "not reached: an ack came to the first attempt"


class Killed(Observer):
    """Kills the destination of the first attempt when the source is proven to wait for its ack."""

    def __init__(self) -> None:
        self.count = 0

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Once it is held."""
        if phase is not Phase.ACTIVE or run.attempts:
            return
        assert run.destination.emulation is not None
        await run.destination.emulation.expect("held", what="the destination", timeout=TIMEOUT_S)
        await waiting.for_an_ack(run)
        self.count += 1
        await run.destination.kill()


@machines.of_each_kind
def test_a_destination_that_is_killed_while_it_holds_the_ack_back(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """The source reads of it on the return path, or as it writes."""
    device = vfio.emulated("idle", **SMALL, when=[HOLD])
    killed, second = Killed(), SecondAttempt()
    machine = machines.TYPES[kind](same_build)
    outcome = migration(**plan(machine, device, trace=traced(same_build))).run(killed, second)
    assert killed.count == 1, "not reached: the destination was not held"
    assert_never_left(outcome, assert_second(outcome, second))
