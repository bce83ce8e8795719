"""A device interrupts its guest: INTx and MSI-X, before and after it migrates; ERR and REQ."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qmptests.errors import TestedFailure
from qmptests.qmp import CommandError
from qmptests.suites.vfio.qtest import (
    COMMAND,
    INTX_DISABLE,
    LOW,
    MEMORY,
    Driver,
    Function,
    asleep,
)
from qmptests.trace import Event

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.vm import VM

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

TRACE = ("vfio_*intx*", "vfio_msi*")
#: In the upper half of the only BAR.
TABLE = LOW + 0x8000
#: What the guest wants of vector N: a message to this address with this data.
MESSAGE, FIRST = 0xFEE00000, 0x4030


@pytest.fixture
def driven(migration: "Migrate", vfio: "Vfio", tmp_path: Path) -> "Callable[[Driver], None]":
    """Migrates a device that such a driver uses on both sides."""

    def run(driver: Driver) -> None:
        wanted = migration(
            vm=asleep(tmp_path),
            devices=[vfio.emulated("idle", bars="64K", msix=4)],
            capabilities=["return-path"],
            trace=TRACE,
        )
        outcome = wanted.run(driver)
        assert outcome.completed, outcome

    return run


async def interrupt(vm: "VM", vector: int = 0) -> None:
    """Have the device raise it."""
    assert vm.emulation is not None
    await vm.emulation.request("interrupt", "vf0", value=vector)


async def seen(vm: "VM", event: str, count: int = 1) -> Event:
    """The `count`th such event of QEMU's."""
    return await vm.trace.wait_for_count(event, count, timeout=30)


def eoi(vm: "VM") -> str:
    """The event for the end of an INTx: its guest has used the device."""
    return "vfio_pci_intx_eoi" if vm.build.facts.version >= (10, 1) else "vfio_intx_eoi"


def order(vm: "VM") -> list[str]:
    """Interrupts and their ends, as they came."""
    vm.trace.log.refresh()
    return [event.name for event in vm.trace.log.select({"vfio_intx_interrupt", eoi(vm)})]


def test_intx_comes_again_only_after_its_guest_has_used_the_device(
    driven: "Callable[[Driver], None]",
) -> None:
    """It is masked meanwhile, and two that are raised then are one."""

    async def use(device: Function) -> None:
        vm = device.vm
        await device.map(LOW)
        await interrupt(vm)
        await seen(vm, "vfio_intx_interrupt")
        await interrupt(vm)
        await interrupt(vm)
        await device.qtest("readl", LOW)
        await seen(vm, "vfio_intx_interrupt", 2)
        await device.qtest("readl", LOW)
        await seen(vm, eoi(vm), 2)
        await interrupt(vm)
        await seen(vm, "vfio_intx_interrupt", 3)
        assert order(vm) == ["vfio_intx_interrupt", eoi(vm)] * 2 + ["vfio_intx_interrupt"]

    driven(Driver(use, use))


def test_intx_waits_while_the_command_register_forbids_it(
    driven: "Callable[[Driver], None]",
) -> None:
    async def use(device: Function) -> None:
        vm = device.vm
        await device.set_config(COMMAND, MEMORY | INTX_DISABLE)
        await interrupt(vm)
        await device.config(COMMAND)  # QEMU would have had time to see it
        assert order(vm) == []
        await device.set_config(COMMAND, MEMORY)
        await seen(vm, "vfio_intx_interrupt")

    driven(Driver(use))


async def enable(device: Function, *vectors: int) -> None:
    """MSI-X, with these vectors, from 0 on: without KVM, QEMU 10.0 dies of one that is left out."""
    await device.map(LOW)
    for vector in vectors:
        entry = TABLE + 16 * vector
        for offset, value in ((0, MESSAGE), (4, 0), (8, FIRST + vector), (12, 0)):
            await device.qtest("writel", entry + offset, value)
    await device.enable_msix()


async def arrives(vm: "VM", vector: int, count: int) -> None:
    """That vector, with the message that its guest wants, as the `count`th of all."""
    await interrupt(vm, vector)
    event = await seen(vm, "vfio_msi_interrupt", count)
    assert event.text.endswith(f" vector {vector} {MESSAGE:#x}/{FIRST + vector:#x}")


def test_vectors_of_msix_arrive_on_both_sides(driven: "Callable[[Driver], None]") -> None:
    """The destination sets up those that its guest had set up at the source."""

    async def before(device: Function) -> None:
        await enable(device, 0, 1)
        for count, vector in enumerate((0, 1, 0), 1):
            await arrives(device.vm, vector, count)
        with pytest.raises(TestedFailure, match="QEMU has not set up MSIX 3: it has 0, 1"):
            await interrupt(device.vm, 3)

    async def after(device: Function) -> None:
        for count, vector in enumerate((1, 0), 1):
            await arrives(device.vm, vector, count)

    driven(Driver(before, after))


def test_a_vector_that_is_masked_is_pending(driven: "Callable[[Driver], None]") -> None:
    async def use(device: Function) -> None:
        vm = device.vm
        await enable(device, 0, 1)
        await device.qtest("writel", TABLE + 16 + 12, 1)
        await interrupt(vm, 1)
        await seen(vm, "vfio_msix_pba_enable")
        assert await device.qtest("readl", TABLE + 4 * 16) == 1 << 1

    driven(Driver(use))


def test_intx_is_back_when_msix_is_switched_off(driven: "Callable[[Driver], None]") -> None:
    async def use(device: Function) -> None:
        await enable(device, 0)
        await device.enable_msix(on=False)
        await interrupt(device.vm)
        await seen(device.vm, "vfio_intx_interrupt")

    driven(Driver(use))


def test_an_error_of_the_device_stops_the_vm_until_it_is_reset(
    driven: "Callable[[Driver], None]",
) -> None:
    async def use(device: Function) -> None:
        vm = device.vm
        assert vm.emulation is not None
        mark = vm.monitor.events.mark
        await vm.emulation.request("err", "vf0")
        await vm.monitor.expect("STOP", what="the VM to stop", timeout=30, since=mark)
        assert await vm.runstate() == "internal-error"
        assert "Unrecoverable error detected" in vm.process.last_lines(1)[0]
        with pytest.raises(CommandError, match="Resetting the Virtual Machine is required"):
            await vm.execute("cont")
        await vm.execute("system_reset")
        await vm.execute("cont")
        assert await vm.runstate() == "running"

    driven(Driver(use))


def test_a_device_that_is_wanted_back_and_can_not_be_unplugged_stays(
    driven: "Callable[[Driver], None]",
) -> None:
    async def use(device: Function) -> None:
        vm = device.vm
        assert vm.emulation is not None
        await vm.emulation.request("req", "vf0")
        for _ in range(2):  # QEMU hears of both in the same turn, in whatever order
            await vm.runstate()
        assert "Bus 'pcie.0' does not support hotplugging" in vm.process.last_lines(1)[0]

    driven(Driver(use))
