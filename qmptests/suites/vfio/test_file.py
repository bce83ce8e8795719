"""Saved to a file, and loaded from it: QEMU's `file:` transport, without a return path."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qmptests.migration import Observer, Phase
from qmptests.suites.vfio.attempts import entered
from qmptests.vm import VM

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

EVENTS = {"capabilities": [{"capability": "events", "state": True}]}


class SaveAndLoad(Observer):
    """Before the migration that the plan is about: saves the source to a file, continues it, and
    loads the file into a VM of its own.

    `arrivals`: what the devices of that VM found in what they were given.
    """

    def __init__(self, path: Path) -> None:
        self.uri = f"file:{path}"
        self.runstates: list[str] = []
        self.arrivals: list[dict[str, object]] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Do both, once the guest lives."""
        if phase is Phase.READY:
            await self._save(run.source)
            await self._load(run)

    async def _save(self, source: VM) -> None:
        assert source.emulation is not None
        mark, devices = source.monitor.events.mark, source.emulation.events.mark
        await source.execute("migrate", {"uri": self.uri})
        await _completed(source, mark)
        for state in ("stop-copy", "stop"):  # the run state is final by then
            devices = await entered(source.emulation, "vf0", state, devices)
        self.runstates.append(await source.runstate())
        await source.execute("cont")
        self.runstates.append(await source.runstate())

    async def _load(self, run: "Run") -> None:
        like = run.destination
        vm = VM(
            "loaded", like.host, like.build, like.definition, like.options, like.guest, run.folder
        )
        try:
            await vm.start()
            await vm.execute("migrate-set-capabilities", EVENTS)
            mark = vm.monitor.events.mark
            await vm.execute("migrate-incoming", {"uri": self.uri})
            await _completed(vm, mark)
            self.runstates.append(await vm.runstate())
        finally:
            await vm.stop()
        assert vm.emulation is not None
        self.arrivals = [device["arrival"] for device in vm.emulation.report.values()]


async def _completed(vm: VM, mark: int) -> None:
    await vm.monitor.expect(
        "MIGRATION",
        lambda data: data["status"] in ("completed", "failed"),
        what="the end of it",
        timeout=30,
        since=mark,
    )
    status = (await vm.execute("query-migrate"))["status"]
    assert status == "completed", await vm.execute("query-migrate")


@pytest.mark.parametrize("profile", ["idle", "no-precopy", "no-p2p"])
def test_saved_to_a_file_and_loaded(
    migration: "Migrate", vfio: "Vfio", tmp_path: Path, profile: str
) -> None:
    """What is loaded is right, and the VM that was saved runs on and can be migrated."""
    devices = [vfio.emulated(profile, stop_copy="64K")]
    wanted = migration(vm="none", devices=devices)
    both = SaveAndLoad(tmp_path / "saved")
    outcome = wanted.run(both)
    assert outcome.completed, outcome
    assert both.runstates == ["postmigrate", "running", "running"]
    assert [arrival["problem"] for arrival in both.arrivals] == [""]
