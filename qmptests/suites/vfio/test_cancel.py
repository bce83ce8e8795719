"""`migrate_cancel`, `stop` and `cont` while a device is in each phase of a migration."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from qmptests.migration import WhenHeld
from qmptests.outcome import Result
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import CancelWhenHeld, InPrecopy, SecondAttempt, said

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]


def ended(wanted: "Migration") -> tuple[str, ...]:
    """What a cancelled attempt may end as: in 10.0 it is a race with the failure that it causes."""
    newer = wanted.plan.source.facts.version >= (11, 1)
    return ("cancelled",) if newer else ("cancelled", "failed")


@pytest.mark.parametrize("call", ["set-state:pre-copy", "read"])
def test_cancelled_in_precopy(migration: "Migrate", vfio: "Vfio", call: str) -> None:
    """The device goes from PRE_COPY to RUNNING at once, and has it all to send again.

    It is held once more at a later read, until QEMU has answered: else it might be done by then.
    Its initial bytes take more reads than that, and without the ack QEMU doesn't switch over.
    """
    rules = [f"{call}+hold", "read+hold+nth=2"]
    device = vfio.emulated("idle", initial="8M", stop_copy="64K", when=rules)
    acked = ["return-path", "switchover-ack"]
    wanted = migration(devices=[device], capabilities=acked, retries=1)
    cancel, second = CancelWhenHeld(), SecondAttempt()
    outcome = wanted.run(cancel, second)
    assert outcome.completed, outcome
    assert (cancel.count, second.count) == (2, 1)
    first = outcome.record.attempts[0].status
    assert first in ended(wanted)
    assert asked.states(outcome)[2:5] == ["pre-copy", "running", "pre-copy"]


@pytest.mark.parametrize("state", ["pre-copy-p2p", "stop-copy"])
def test_cancelled_before_the_switchover(migration: "Migrate", vfio: "Vfio", state: str) -> None:
    """While a device stops QEMU is deaf; before the switchover it hears of the cancel."""
    rule = f"set-state:{state}+hold"
    device = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])
    cancel, second = CancelWhenHeld(), SecondAttempt()
    outcome = migration(
        devices=[device],
        capabilities=["return-path", "pause-before-switchover"],
        cancel_at="pre-switchover",
        retries=1,
    ).run(cancel, second)
    assert outcome.completed, outcome
    assert (cancel.count, second.count) == (1, 1)
    assert outcome.record.attempts[0].status == "cancelled"
    walked = asked.states(outcome)
    assert walked[2:5] == ["pre-copy", "pre-copy-p2p", "stop-copy"]
    assert walked[-4:] == ["pre-copy", "pre-copy-p2p", "stop-copy", "stop"]


def test_cancelled_when_all_is_sent_the_guest_runs_twice(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """What is read in STOP_COPY goes out before QEMU hears of the cancel, which it then obeys."""
    device = vfio.emulated("idle", initial="1M", stop_copy="64K", when=["read+hold+in=stop-copy"])
    slow = "set-state:running-p2p+delay=200ms"
    there = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[slow])
    wanted = migration(
        devices=[device],
        destination_devices=[there],
        capabilities=["return-path"],
        expected=Result.BOTH_RUNNING,
    )
    outcome = wanted.run(CancelWhenHeld())
    assert outcome.as_expected, outcome
    assert outcome.record.attempts[0].status in ended(wanted)
    assert outcome.record.source_ran_on


def test_a_device_without_precopy_can_be_stopped_and_continued(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    cont = InPrecopy("stop", "cont")
    device = vfio.emulated("no-precopy")
    outcome = migration(devices=[device], capabilities=["return-path"]).run(cont)
    assert outcome.completed, outcome
    assert cont.states == ["stop", "running"]


def test_stopped_and_continued_in_precopy_it_fails(migration: "Migrate", vfio: "Vfio") -> None:
    """QEMU keeps the data descriptor of a session that is over, and stumbles over it at the end."""
    cont, second = InPrecopy("stop", "cont"), SecondAttempt()
    device = vfio.emulated("idle", initial="1M", stop_copy="64K")
    outcome = migration(devices=[device], capabilities=["return-path"], retries=1).run(cont, second)
    assert cont.states == ["stop-copy", "running"]
    first = outcome.record.attempts[0]
    assert (first.status, first.error.endswith("Bad file descriptor")) == ("failed", True)
    assert "data_fd out of sync" in said(outcome)
    assert outcome.completed, outcome
    assert second.count == 1


def test_stopped_and_continued_while_it_reads_it_fails(migration: "Migrate", vfio: "Vfio") -> None:
    """A read from the session that is over: no such device, as Linux's drivers have it."""

    async def stop_and_continue(run: "Run") -> None:
        await run.source.execute("stop")
        await run.source.execute("cont")

    device = vfio.emulated("idle", initial="1M", when=["read+hold+in=pre-copy"])
    held, second = WhenHeld("source", stop_and_continue), SecondAttempt()
    outcome = migration(devices=[device], capabilities=["return-path"], retries=1).run(held, second)
    assert outcome.completed, outcome
    assert (held.count, second.count) == (1, 1)
    assert outcome.record.attempts[0].error == "Channel error: No such device"
