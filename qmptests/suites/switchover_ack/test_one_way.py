"""Over a transport without a way back no ack comes: docs/findings/one-way-return-path.md.

QEMU takes the capabilities, and the migration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.hosts import WaitTimeout
from qmptests.suites.switchover_ack import machines, observed, pending
from qmptests.suites.switchover_ack.one_way import DEADLINE_S, Sent

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("same_build"),
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

ACKS = ["return-path", "switchover-ack"]
NO_WAY_BACK = "Unable to read from file: Bad file descriptor"
#: It waits for the thread that reads what comes back; and that has ended.
JOINS, JOINED = "migration_return_path_end_before", "migration_return_path_end_after"


def one_device(migration: "Migrate", vfio: "Vfio", **plan: Any) -> "Migration":
    device = vfio.emulated("idle", initial="64K", stop_copy="64K")
    ordinary = {"capabilities": ACKS, "devices": [device], "trace": (JOINS, JOINED)}
    return migration(vm="none", **{**ordinary, **plan})


async def waits_for_the_ack(run: "Run") -> dict[str, Any]:
    """Little enough is left to switch over, time and again; query-migrate."""
    source = run.source
    info = await pending.keeps_waiting(source)
    threshold = source.trace.log.last(pending.THRESHOLD)
    assert threshold
    left = info.get("remaining", info["ram"]["remaining"])
    assert left <= int(threshold.args["max_size"]), "not reached: there is too much left"
    assert source.trace.log.count(observed.ACKED) == 0
    return info


def test_a_file_never_acknowledges(migration: "Migrate", vfio: "Vfio", tmp_path: Path) -> None:
    """That nothing can be read is known from the beginning, and said, and ends nothing."""

    async def act(sent: Sent, run: "Run") -> None:
        info = await waits_for_the_ack(run)
        assert (info["status"], info["error-desc"]) == ("active", NO_WAY_BACK)
        await run.source.execute("migrate_cancel")
        assert (await sent.ended(run.source))["status"] == "cancelled"
        assert await run.source.runstate() == "running"

    outcome = one_device(migration, vfio).run(Sent("file", tmp_path, act))
    assert outcome.completed, outcome


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "new"])
def test_without_a_device_the_legacy_mechanism_waits_too(
    migration: "Migrate", same_build: "Build", vfio: "Vfio", tmp_path: Path, legacy: bool
) -> None:
    """It awaits one ack from a destination that is none. The new one has nobody to wait for.

    It goes on to the end, where it finds out that there was no way back.
    """
    machine = machines.legacy(same_build) if legacy else machines.new(same_build)

    async def act(sent: Sent, run: "Run") -> None:
        if legacy:
            await waits_for_the_ack(run)
            await run.source.execute("migrate_cancel")
        info = await sent.ended(run.source)
        assert info["status"] == ("cancelled" if legacy else "failed")
        assert info["error-desc"] == NO_WAY_BACK
        assert run.source.trace.log.count(observed.DECIDED) == (not legacy)
        assert await run.source.runstate() == "running"

    wanted = one_device(migration, vfio, machine=machine, devices=[])
    outcome = wanted.run(Sent("file", tmp_path, act))
    assert outcome.completed, outcome


def test_a_command_never_acknowledges(migration: "Migrate", vfio: "Vfio", tmp_path: Path) -> None:
    """It could say something, so there is no error either. Once it ends the migration fails."""

    async def act(sent: Sent, run: "Run") -> None:
        info = await waits_for_the_ack(run)
        assert "error-desc" not in info
        await sent.tell()
        assert (await sent.ended(run.source))["status"] == "failed"
        assert await run.source.runstate() == "running"

    outcome = one_device(migration, vfio).run(Sent("exec", tmp_path, act))
    assert outcome.completed, outcome


def test_a_cancel_stops_all_of_qemu_until_the_command_ends(
    migration: "Migrate", vfio: "Vfio", tmp_path: Path
) -> None:
    """The main thread waits for the one that reads, which nothing wakes: QMP answers no more."""

    async def act(sent: Sent, run: "Run") -> None:
        source = run.source
        await waits_for_the_ack(run)
        await source.execute("migrate_cancel")
        await source.trace.wait_for(JOINS, timeout=DEADLINE_S)
        with pytest.raises(WaitTimeout):
            await source.monitor.execute("query-status", timeout=0.3)
        assert source.trace.log.count(JOINED) == 0
        await sent.tell()
        assert (await sent.ended(source))["status"] == "cancelled"
        assert source.trace.log.count(JOINED) == 1
        assert await source.runstate() == "running"

    outcome = one_device(migration, vfio).run(Sent("exec", tmp_path, act))
    assert outcome.completed, outcome


@pytest.mark.parametrize("cancelled", [False, True], ids=["left-alone", "cancelled"])
def test_with_a_return_path_alone_the_guest_is_stopped_until_the_command_ends(
    migration: "Migrate", vfio: "Vfio", tmp_path: Path, cancelled: bool
) -> None:
    """All is sent, and QEMU waits to hear that it has arrived. A cancel doesn't change that."""

    async def act(sent: Sent, run: "Run") -> None:
        source = run.source
        await source.trace.wait_for(JOINS, timeout=DEADLINE_S)
        if cancelled:
            await source.execute("migrate_cancel")
        status = (await source.execute("query-migrate"))["status"]
        assert status == ("cancelling" if cancelled else "device")
        assert await source.runstate() == "finish-migrate"
        assert source.trace.log.count(JOINED) == 0
        await sent.tell()
        assert (await sent.ended(source))["status"] == ("cancelled" if cancelled else "failed")
        assert await source.runstate() == "running"

    outcome = one_device(migration, vfio, capabilities=["return-path"]).run(
        Sent("exec", tmp_path, act)
    )
    assert outcome.completed, outcome
