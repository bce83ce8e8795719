"""`stop` and `cont` in precopy, and what that does to acks.

| `stop` and `cont` | the migration |
|---|---|
| before the device's data are read | never ends: the ack never comes |
| after the ack | fails at switchover, as without acks: docs/findings/vfio-pause-in-precopy.md |
| with a REINIT then, or before, its data not read | never ends: an ack is owed, nobody asks again |
| with a REINIT whose data have gone out | gets its ack, and fails as above |

`stop` alone lets a source go that waits for an ack: see `test_rules`.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase, WhenHeld, settings
from qmptests.suites.switchover_ack import machines, observed, pending, waiting
from qmptests.suites.switchover_ack.counted import CAPABILITIES, assert_acked
from qmptests.suites.switchover_ack.reinit import (
    NEVER,
    TIMEOUT_S,
    ReinitAfterAck,
    assert_reinits,
)
from qmptests.suites.vfio.attempts import InPrecopy, SecondAttempt, said
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

SIZES = {"initial": "64K", "stop_copy": "64K"}


def plan(machine: str, device: Any, **more: Any) -> dict[str, Any]:
    """A migration of a guest that counts, with acks."""
    wanted: dict[str, Any] = {"machine": machine, "devices": [device], "timeout_s": TIMEOUT_S}
    return wanted | {"capabilities": CAPABILITIES} | more


class NeverEnds(Observer):
    """Cancels the first attempt once all that is left fits, and it still does not switch over.

    `acked`: the acks that it had by then.
    """

    def __init__(self) -> None:
        self.acked = -1

    async def reached(self, phase: Phase, run: "Run") -> None:
        """After what other observers do in precopy."""
        if phase is Phase.ACTIVE and not run.attempts:
            await pending.keeps_waiting(run.source)
            self.acked = run.source.trace.log.count(observed.ACKED)
            await run.source.execute("migrate_cancel")


@machines.of_each_kind
def test_before_the_initial_data_are_read_the_ack_never_comes(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """The device is not put back into PRE_COPY, so nothing of it is read; the ack is still owed."""
    paused, never, second = InPrecopy("stop", "cont"), NeverEnds(), SecondAttempt()
    device = vfio.emulated("idle", **SIZES)
    wanted = plan(machines.TYPES[kind](same_build), device, retries=1)
    outcome = migration(**wanted).run(paused, never, second)
    assert paused.states == ["stop-copy", "running"], "not reached: it was not in precopy"
    assert (never.acked, second.count) == (0, 1)
    assert outcome.completed, outcome


class AfterTheAck(Observer):
    """In the first attempt: `stop` and `cont` once all acks are there, and lets it switch over.

    `reinit`: as much new data appear before that, and another ack is asked for. `sent`: all of them
    have gone out.
    """

    def __init__(
        self, reinit: str = "", *, sent: bool = False, limit: int = settings.DOWNTIME_LIMIT_MS
    ) -> None:
        self.reinit = reinit
        self.sent = sent
        self.limit = limit
        self.count = 0
        self.done = asyncio.Event()

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Keep switchover shut until then."""
        source = run.source
        if run.attempts or phase not in (Phase.READY, Phase.ACTIVE):
            return
        if phase is Phase.READY:
            await run.execute(source, "migrate-set-parameters", NEVER)
            return
        await source.trace.wait_for(observed.ACKED, timeout=TIMEOUT_S, what="the ack")
        if self.reinit:
            await self._ask_again(run)
        await run.execute(source, "stop")
        before = source.trace.log.last(pending.QUERY)
        what = "a read that was under way to be over"
        await source.trace.wait_for(pending.QUERY, timeout=TIMEOUT_S, what=what, after=before)
        await run.execute(source, "cont")
        self.count += 1
        await pending.allow(run, self.limit)
        self.done.set()

    async def _ask_again(self, run: "Run") -> None:
        trace, emulation = run.source.trace, run.source.emulation
        assert emulation is not None
        rule = when.parse(f"precopy-info+reinit={self.reinit}").rule()
        await emulation.add_rule("vf0", rule)
        await trace.wait_for(observed.ASKED_AGAIN, timeout=TIMEOUT_S)
        if self.sent:
            await trace.wait_for_count(observed.SENT, 2, timeout=TIMEOUT_S)

    async def over(self, _: "Run") -> None:
        """Wait until all of that was done."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.done.wait()


@machines.of_each_kind
def test_after_the_ack_it_fails_at_switchover(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """QEMU keeps the data descriptor of a session that is over. A second migration succeeds."""
    if not pending.has_the_fixes(same_build):
        pytest.skip("a downtime limit of 0 does not keep it from switching over before the `stop`")
    paused, second = AfterTheAck(), SecondAttempt()
    device = vfio.emulated("idle", **SIZES)
    wanted = plan(machines.TYPES[kind](same_build), device, retries=1, trace=[pending.QUERY])
    outcome = migration(**wanted).run(paused, second)
    assert_out_of_sync(outcome, paused, second)


def assert_out_of_sync(outcome: "Outcome", paused: AfterTheAck, second: SecondAttempt) -> None:
    """That the first attempt failed for the data descriptor, and the second arrived."""
    assert (paused.count, second.count) == (1, 1), "not reached: it was not paused, or did not fail"
    assert outcome.completed, outcome
    first = outcome.record.attempts[0]
    assert (first.status, first.error.endswith("Bad file descriptor")) == ("failed", True)
    assert "data_fd out of sync" in said(outcome)


def test_after_the_data_of_a_reinit_the_ack_still_comes(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The destination is held at them until the source runs again, and then it fails as well."""
    paused, second = AfterTheAck("64K", sent=True), SecondAttempt()
    held = WhenHeld("destination", paused.over)
    hold = "write+hold+side=destination+after_bytes=64K"
    device = vfio.emulated("idle", **SIZES, when=[hold])
    wanted = plan(machines.new(same_build), device, retries=1, trace=[pending.QUERY])
    wanted |= {"vm": waiting.QUIET, "transport": "tcp"}
    outcome = migration(**wanted).run(paused, held, second)
    assert held.count == 1, "not reached: the destination was not held"
    assert_out_of_sync(outcome, paused, second)
    assert len(observed.reinits(outcome)) == 1
    assert observed.arrived(outcome) == 2 + 1


@pytest.mark.parametrize(
    ("rules", "reinit"),
    [(["precopy-info:final+reinit=4G"], ""), ([], "4G")],
    ids=["at-the-stop", "before-the-stop"],
)
def test_with_a_reinit_whose_data_are_not_read_an_ack_is_owed_for_ever(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", rules: list[str], reinit: str
) -> None:
    """QEMU asks a device for the last time whenever the VM stops, and counts what it says.

    It may still read a little before the device is stopped: there is more than that.
    """
    paused, never, second = AfterTheAck(reinit, limit=pending.ENOUGH), NeverEnds(), SecondAttempt()
    device = vfio.emulated("idle", **SIZES, when=rules)
    wanted = plan(machines.new(same_build), device, retries=1, trace=[pending.QUERY])
    outcome = migration(**wanted).run(paused, never, second)
    assert (paused.count, second.count) == (1, 1)
    assert len(observed.reinits(outcome)) == 1, "not reached: no REINIT"
    assert outcome.source.trace.count(observed.ASKED_AGAIN) == 1
    assert never.acked == 1
    assert outcome.completed, outcome


def test_the_pause_before_switchover_comes_after_the_ack_of_a_reinit(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """With the pause the device is in STOP_COPY, where it can't have one any more."""
    reinit = ReinitAfterAck("vf0")
    device = vfio.emulated("idle", **SIZES)
    wanted = plan(machines.new(same_build), device, vm="none")
    wanted["capabilities"] = [*CAPABILITIES, "pause-before-switchover"]
    outcome = migration(**wanted).run(reinit)
    assert outcome.completed, outcome
    assert_reinits(outcome, reinit)
    assert assert_acked(outcome, 1, reinits=1) == observed.NEW
    acked = outcome.source.trace.last(observed.ACKED)
    states = outcome.source.trace.events("migrate_set_state", after=acked)
    assert "pre-switchover" in [event.args["new_state"] for event in states]
