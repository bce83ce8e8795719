"""A device is realized, plugged and unplugged, alone or among others."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from qmptests.errors import InputError
from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.qmp import CommandError
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

#: A port that devices can be plugged into while the VM runs; those of q35 itself can't be.
PORT = "pcie-root-port,id=port0,chassis=1,addr=08.0"
#: Registers of q35's ACPI hot-plug: which bus, and the slots that an operating system ejects.
#: Source: docs/specs/acpi_pci_hotplug.rst of QEMU.
BUS_SELECT, EJECT = 0xCD0, 0xCC8
#: What a device is asked before its VM can run, besides what each version has of its own.
REALIZE = [
    *("bind", "attach", "device-info", "region-info", "irq-info", "set-irqs"),
    *("migration-flags", "probe", "set-irqs", "irq-info", "set-irqs"),
]


def behind_port(wanted: "Migration") -> "Migration":
    """The same with a port in the VM."""
    definition = msgspec.structs.replace(wanted.plan.definition, devices=[PORT])
    return replace(wanted, plan=replace(wanted.plan, definition=definition))


class At(Observer):
    """Does something with the source at a phase."""

    def __init__(self, phase: Phase, do: "Callable[[VM], Awaitable[None]]") -> None:
        self.phase = phase
        self.do = do

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Do it, if this is the phase."""
        if phase is self.phase:
            await self.do(run.source)


async def plug(vm: VM) -> None:
    """Plug the VM's first emulated device into the port."""
    device = {"driver": "vfio-pci", "id": "vf0", "bus": "port0", "addr": "00.0"}
    fds = {"fd": str(descriptors.device(0)), "iommufd": IOMMUFD_ID}
    await vm.execute("device_add", device | fds)


async def unplug(vm: VM) -> None:
    """Have it unplugged, and eject it in place of an operating system."""
    mark = vm.monitor.events.mark
    await vm.execute("device_del", {"id": "vf0"})
    for register, value in ((BUS_SELECT, 0), (EJECT, 1)):
        await vm.execute("human-monitor-command", {"command-line": f"o /w {register:#x} {value}"})
    await vm.monitor.expect(
        "DEVICE_DELETED",
        lambda data: data.get("device") == "vf0",
        what="vf0 to be unplugged",
        timeout=30,
        since=mark,
    )


@pytest.mark.parametrize("side", ["source", "destination"])
def test_what_a_device_is_asked_before_its_vm_runs(
    migration: "Migrate", vfio: "Vfio", side: str
) -> None:
    """It is bound and attached, says what it has, gets its interrupts, says what it can migrate.

    In this order; the iommufd is given the guest's memory in between.
    """
    wanted = migration(vm="none", devices=[vfio.emulated()])
    outcome = wanted.run()
    assert outcome.completed, outcome
    log = asked.calls(outcome, side)
    names = asked.order(log.calls(device="vf0"))
    begin = names[: names.index("reset")]
    build = wanted.plan.source if side == "source" else wanted.plan.destination
    newer = build.facts.version >= (11, 1)
    assert ("precopy-info-v2" in begin) == newer, "the opt-in to REINIT came with QEMU 11.1"
    own = {"config-write", "precopy-info-v2", "dma-buf"}
    common = [name for name, _ in itertools.groupby(name for name in begin if name not in own)]
    if "dma-buf" not in begin:  # older versions ask for the BAR once more instead
        assert common.pop(5) == "region-info"
    assert common == REALIZE
    asked_of = (call.with_["region"] for call in log.calls("region-info", "vf0"))
    # Of a BAR with a capability it asks once more, with room for that.
    regions = [region for region, _ in itertools.groupby(asked_of)]
    assert regions[:7] == [*(f"bar{number}" for number in range(6)), "config"]
    assert [call.with_["feature"] for call in log.calls("probe")] == ["dma-logging-start"]
    memory = [call.with_["length"] for call in log.calls("ioas-map")]
    assert memory[0] == wanted.plan.definition.memory_bytes


def test_a_device_is_plugged_in_before_a_migration(migration: "Migrate", vfio: "Vfio") -> None:
    """Its data arrives at one that was there from the start."""
    here = vfio.emulated("idle", initial="1M", plugged=False)
    there = vfio.emulated("idle", initial="1M", bus="port0", addr="00.0")
    wanted = behind_port(migration(vm="none", devices=[here], destination_devices=[there]))
    outcome = wanted.run(At(Phase.STARTED, plug))
    assert outcome.completed, outcome
    (arrived,) = outcome.destination.record.devices
    assert arrived.arrival is not None
    assert arrived.arrival.chunks == outcome.source.record.devices[0].sent


def test_a_device_is_unplugged_before_a_migration(migration: "Migrate", vfio: "Vfio") -> None:
    """It is given back whole, and neither sends anything nor hinders the migration."""
    device = vfio.emulated("not-migratable", bus="port0", addr="00.0")
    wanted = behind_port(migration(vm="none", devices=[device], destination_devices=[]))
    outcome = wanted.run(At(Phase.STARTED, unplug))
    assert outcome.completed, outcome
    log = asked.calls(outcome)
    assert asked.order(log.calls(device="vf0"))[-2:] == ["set-irqs", "detach"]
    assert asked.order(log.calls(device="iommufd"))[-3:] == ["destroy", "ioas-unmap", "destroy"]
    assert not outcome.source.record.devices[0].sent


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_each_device_has_its_data_at_its_address(
    migration: "Migrate", vfio: "Vfio", count: int
) -> None:
    devices = [vfio.emulated("idle", initial="64K", stop_copy="64K")] * count
    outcome = migration(vm="none", devices=devices, capabilities=["return-path"]).run()
    assert outcome.completed, outcome
    sent, arrived = outcome.source.record.devices, outcome.destination.record.devices
    assert [device.name for device in arrived] == [f"vf{number}" for number in range(count)]
    for here, there in zip(sent, arrived, strict=True):
        assert sum(chunk.bytes for chunk in here.sent) == 128 << 10
        assert there.arrival is not None
        assert (there.arrival.problem, there.arrival.chunks) == ("", here.sent)
    saved = {e.args["idstr"] for e in outcome.source.trace.events("vmstate_downtime_save")}
    assert saved >= {f"0000:00:{0x10 + number:02x}.0/vfio" for number in range(count)}


def test_a_device_at_the_address_of_another_gets_the_others_data(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """QEMU finds a device by its address, not by its id; what it got is not what it expects."""
    places = ["10.0", "11.0"]
    here, there = (
        [vfio.emulated(addr=place) for place in order] for order in (places, places[::-1])
    )
    wanted = migration(vm="none", devices=here, destination_devices=there)
    plan = replace(wanted.plan, expected=Result.DEVICE_DATA_WRONG)
    outcome = replace(wanted, plan=plan).run()
    assert outcome.as_expected, outcome
    assert "a page of another device" in outcome.record.error


def test_a_ninth_device_is_refused(migration: "Migrate", vfio: "Vfio") -> None:
    with pytest.raises(InputError, match="the source has 9 emulated ones, 8 is the most"):
        migration(devices=[vfio.emulated()] * 9).run()


@pytest.mark.parametrize("do", ["device_add", "device_del"])
def test_no_device_comes_or_goes_while_its_vm_migrates(
    migration: "Migrate", vfio: "Vfio", do: str
) -> None:
    """QEMU refuses to; the migration goes on."""
    place = {"plugged": False} if do == "device_add" else {"bus": "port0", "addr": "00.0"}
    devices = [
        vfio.emulated("idle", **place),
        vfio.emulated("idle", initial="64K", when=["read+hold+side=source"]),
    ]
    wanted = behind_port(migration(vm="none", devices=devices))
    refused = []

    async def attempt(run: "Run") -> None:
        with pytest.raises(CommandError) as caught:
            await (plug(run.source) if do == "device_add" else unplug(run.source))
        refused.append(str(caught.value))

    outcome = wanted.run(WhenHeld("source", attempt))
    assert outcome.completed, outcome
    assert len(refused) == 1
    assert "not allowed while migrating" in refused[0]
