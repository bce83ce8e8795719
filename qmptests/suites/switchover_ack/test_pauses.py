"""`stop` and `cont` in precopy, and what that does to acks.

| `stop` and `cont` | the migration |
|---|---|
| before the device's data are read | never ends: the ack never comes |
| after the ack | fails at switchover, as without acks: docs/findings/vfio-pause-in-precopy.md |
| with a REINIT at the `stop` | never ends: an ack is owed, and the device is asked no more |

`stop` alone lets a source go that waits for an ack: see `test_rules`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed, pending
from qmptests.suites.switchover_ack.counted import CAPABILITIES
from qmptests.suites.switchover_ack.reinit import NEVER, TIMEOUT_S, USUAL
from qmptests.suites.vfio.attempts import InPrecopy, SecondAttempt, gives_up_soon, said

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

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


@machines.of_each_kind
def test_before_the_initial_data_are_read_the_ack_never_comes(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """The device is not put back into PRE_COPY, so nothing of it is read; the ack is still owed."""
    paused = InPrecopy("stop", "cont")
    device = vfio.emulated("idle", **SIZES)
    wanted = plan(machines.TYPES[kind](same_build), device, expected=Result.TIMED_OUT)
    outcome = gives_up_soon(migration(**wanted)).run(paused)
    assert paused.states == ["stop-copy", "running"], "not reached: it was not in precopy"
    assert outcome.as_expected, outcome
    assert observed.on_the_wire(outcome) == 0
    assert outcome.record.source_ran_on


class AfterTheAck(Observer):
    """In the first attempt: `stop` and `cont` once all acks are there, and lets it switch over."""

    def __init__(self) -> None:
        self.count = 0

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Keep switchover shut until then."""
        source = run.source
        if run.attempts or phase not in (Phase.READY, Phase.ACTIVE):
            return
        if phase is Phase.READY:
            await run.execute(source, "migrate-set-parameters", NEVER)
            return
        await source.trace.wait_for(observed.ACKED, timeout=TIMEOUT_S, what="the ack")
        for command in ("stop", "cont"):
            await run.execute(source, command)
        self.count += 1
        await run.execute(source, "migrate-set-parameters", USUAL)


@machines.of_each_kind
def test_after_the_ack_it_fails_at_switchover(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    """QEMU keeps the data descriptor of a session that is over. A second migration succeeds."""
    if not pending.has_the_fixes(same_build):
        pytest.skip("a downtime limit of 0 does not keep it from switching over before the `stop`")
    paused, second = AfterTheAck(), SecondAttempt()
    device = vfio.emulated("idle", **SIZES)
    wanted = plan(machines.TYPES[kind](same_build), device, retries=1)
    outcome = migration(**wanted).run(paused, second)
    assert (paused.count, second.count) == (1, 1), "not reached: it was not paused, or did not fail"
    assert outcome.completed, outcome
    first = outcome.record.attempts[0]
    assert (first.status, first.error.endswith("Bad file descriptor")) == ("failed", True)
    assert "data_fd out of sync" in said(outcome)


def test_with_a_reinit_at_the_stop_an_ack_is_owed_for_ever(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """QEMU asks a device for the last time whenever the VM stops, and counts what it says.

    It may still read a little before the device is stopped: there is more than that.
    """
    paused = AfterTheAck()
    device = vfio.emulated("idle", **SIZES, when=["precopy-info:final+reinit=256M"])
    wanted = plan(machines.new(same_build), device, expected=Result.TIMED_OUT)
    outcome = gives_up_soon(migration(**wanted)).run(paused)
    assert paused.count == 1
    assert outcome.as_expected, outcome
    assert len(observed.reinits(outcome)) == 1, "not reached: no REINIT at the stop"
    assert observed.on_the_wire(outcome) == 1
    last = observed.story(outcome).acks[-1]
    assert (last.why, last.given_us) == ("reinit", None)
    assert outcome.record.source_ran_on
