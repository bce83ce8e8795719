"""A device's registers: who sees an access to them, and what a reset does to them."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.suites.vfio import asked
from qmptests.suites.vfio.qtest import BAR0, EXPRESS, HIGH, LOW, Driver, Function, asleep

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.outcome import Outcome
    from qmptests.vm import VM

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

SECOND = LOW + 0x1000000
VALUE = 0xC0FFEE
#: Of Express's device control register.
FLR = 0x8000


@pytest.fixture
def driven(migration: "Migrate", vfio: "Vfio", tmp_path: Path) -> "Callable[..., Outcome]":
    """Migrates a device with these keys whose driver does something on the source."""

    def run(before: "Callable[[Function], Awaitable[None]]", **keys: Any) -> "Outcome":
        wanted = migration(
            vm=asleep(tmp_path),
            devices=[vfio.emulated("idle", **keys)],
            capabilities=["return-path"],
        )
        outcome = wanted.run(Driver(before))
        assert outcome.completed, outcome
        return outcome

    return run


def written(outcome: "Outcome") -> list[tuple[int, int]]:
    """Region and offset of the writes that the source was told of, in order."""
    return [(c.with_["region"], c.with_["offset"]) for c in asked.calls(outcome).calls("bar-write")]


def test_a_device_is_told_of_writes_to_a_bar_that_can_not_be_mapped(
    driven: "Callable[..., Outcome]",
) -> None:
    """Those to one that can are the guest's own affair, and its reads always are."""

    async def use(device: Function) -> None:
        await device.map(LOW, SECOND)
        for place in (LOW + 0x100, SECOND + 0x200):
            await device.qtest("writel", place, VALUE)
            assert await device.qtest("readl", place) == VALUE
            await device.qtest("writeb", place + 2, 0xAB)
            assert await device.qtest("readl", place) == 0xABFFEE

    outcome = driven(use, bars=["64K", "64K,no-mmap"])
    assert written(outcome) == [(1, 0x200), (1, 0x202)]


@pytest.mark.parametrize("mappable", [True, False])
def test_the_page_of_the_msix_table_is_mapped_if_it_may_be(
    driven: "Callable[..., Outcome]", mappable: bool
) -> None:
    """QEMU keeps the table itself; what else is in its page the device is told of unless all of
    the BAR may be mapped (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE).
    """

    async def use(device: Function) -> None:
        await device.map(LOW)
        for offset in (0x7FFC, 0x8000, 0x8FFC, 0x9000):
            await device.qtest("writel", LOW + offset, VALUE)
            assert await device.qtest("readl", LOW + offset) == VALUE

    outcome = driven(use, bars=["64K"], msix_mappable=mappable)
    assert written(outcome) == ([] if mappable else [(0, 0x8FFC)])


@pytest.mark.parametrize("dma_buf", [True, False])
def test_a_bar_is_mapped_for_other_devices_by_its_dma_buf(
    driven: "Callable[..., Outcome]", dma_buf: bool
) -> None:
    """Where QEMU wants one (11.1 does) and the kernel has them; else by its mapping of the BAR."""

    async def use(device: Function) -> None:
        await device.map(LOW, SECOND)

    outcome = driven(use, bars=["64K", "1M"], dma_buf=dma_buf)
    log = asked.calls(outcome)
    in_second = {
        name
        for name in ("ioas-map", "ioas-map-file")
        for call in log.calls(name)
        if (call.with_["iova"], call.with_["length"]) == (SECOND, 1 << 20)
    }
    wanted = list(log.calls("dma-buf"))
    given = {call.with_["region"] for call in wanted if "fd" in call.answer}
    assert given == ({"bar0", "bar1"} if wanted and dma_buf else set())
    assert in_second == {"ioas-map-file" if given else "ioas-map"}


def test_a_bar_of_64_bits_may_be_above_4_gib(driven: "Callable[..., Outcome]") -> None:
    async def use(device: Function) -> None:
        await device.map(HIGH)
        assert await device.config(BAR0) & 0xF == 0xC
        await device.qtest("writeq", HIGH + (1 << 30) - 8, VALUE << 32)
        assert await device.qtest("readq", HIGH + (1 << 30) - 8) == VALUE << 32

    assert written(driven(use, bars="1G,64-bit,prefetchable")) == []


async def state(vm: "VM") -> str:
    """What the device says of itself."""
    assert vm.emulation is not None
    (device,) = (await vm.emulation.request("status"))["devices"]
    return str(device["state"])


async def system_reset(device: Function) -> None:
    """Of the whole VM."""
    await device.vm.execute("system_reset")
    await device.vm.monitor.expect("RESET", what="the VM to be reset", timeout=30)


async def function_reset(device: Function) -> None:
    """By the guest's driver."""
    await device.set_config(await device.capability(EXPRESS) + 8, FLR)


@pytest.mark.parametrize("reset", [system_reset, function_reset])
def test_a_reset_clears_registers_and_errors(
    driven: "Callable[..., Outcome]", reset: Callable[[Function], Awaitable[None]]
) -> None:
    """Whether the guest does it or QEMU: the state is RUNNING again, and all registers are 0."""

    async def use(device: Function) -> None:
        assert device.vm.emulation is not None
        await device.map(LOW, SECOND)
        for place in (LOW, SECOND):
            await device.qtest("writel", place, VALUE)
        await device.vm.emulation.request("error", "vf0")
        assert await state(device.vm) == "error"
        await reset(device)
        assert await state(device.vm) == "running"
        await device.map(LOW, SECOND)
        assert [await device.qtest("readl", place) for place in (LOW, SECOND)] == [0, 0]

    outcome = driven(use, bars=["64K", "64K,no-mmap"])
    before = asked.calls(outcome).calls("reset")
    assert len(list(before)) == (2 if reset is system_reset else 1), "QEMU resets a VM at its start"
