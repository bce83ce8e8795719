"""A device is realized, plugged and unplugged, alone or with others."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from qmptests.errors import InputError
from qmptests.migration import Observer, Phase
from qmptests.suites.vfio import asked
from qmptests.vfio import descriptors
from qmptests.vm import VM
from qmptests.vm.command import IOMMUFD_ID

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

class Plug(Observer):
    """Plugs, or unplugs, the source's device before its guest is waited for."""

    def __init__(self, do: "Callable[[VM], Awaitable[None]]") -> None:
        self.do = do

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Do it."""
        if phase is Phase.STARTED:
            await self.do(run.source)


async def plug(vm: VM) -> None:
    """Plug the VM's first emulated device, behind the port."""
    await vm.execute(
        "device_add",
        {
            "driver": "vfio-pci",
            "id": "vf0",
            "fd": str(descriptors.device(0)),
            "iommufd": IOMMUFD_ID,
            "bus": "port0",
            "addr": "00.0",
        },
    )


async def unplug(vm: VM) -> None:
    """Unplug it again: without an operating system that agrees, a reset does it."""
    mark = vm.monitor.events.mark
    await vm.execute("device_del", {"id": "vf0"})
    await vm.execute("system_reset")
    await vm.monitor.expect(
        "DEVICE_DELETED",
        lambda data: data.get("device") == "vf0",
        what="vf0 to be unplugged",
        timeout=10,
        since=mark,
    )
    
PORT = "pcie-root-port,id=port0,chassis=1,addr=08.0"


def test_plug(migration: "Migrate", vfio: "Vfio") -> None:
    there = vfio.emulated("busy", bus="port0", addr="00.0")
    here = vfio.emulated("busy", plugged=False)
    args = ("-device", PORT)
    wanted = migration(vm="none", devices=[here], destination_devices=[there], capabilities=["return-path"])
    definition = msgspec.structs.replace(wanted.plan.definition, devices=[PORT])
    from dataclasses import replace
    wanted = replace(wanted, plan=replace(wanted.plan, definition=definition))
    outcome = wanted.run(Plug(plug))
    assert outcome.completed, outcome

def test_unplug(migration: "Migrate", vfio: "Vfio") -> None:
    here = vfio.emulated("busy", bus="port0", addr="00.0")
    args = ("-device", PORT)
    wanted = migration(vm="none", devices=[here], destination_devices=[], capabilities=["return-path"])
    definition = msgspec.structs.replace(wanted.plan.definition, devices=[PORT])
    from dataclasses import replace
    wanted = replace(wanted, plan=replace(wanted.plan, definition=definition))
    outcome = wanted.run(Plug(unplug))
    assert outcome.completed, outcome
