"""A guest's part, played by the test: its accesses to ports, memory and PCI devices.

The lines are QEMU's qtest protocol (docs/devel/testing/qtest.rst of QEMU), which works beside a
running guest; the one here is asleep from its first instruction on.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qmptests.hosts import wait
from qmptests.migration import Observer, Phase
from qmptests.vm import VM, Definition, load
from qmptests.vm.command import FIRST_SLOT

if TYPE_CHECKING:
    from qmptests.migration import Run

ADDRESS, DATA = 0xCF8, 0xCFC
COMMAND, BAR0, CAPABILITIES = 0x04, 0x10, 0x34
MEMORY, BUS_MASTER, INTX_DISABLE = 0x002, 0x004, 0x400
MSIX, EXPRESS = 0x11, 0x10
MSIX_ENABLE = 0x8000
#: Where a BAR goes that is below 4 GiB, and one of 64 bits.
LOW, HIGH = 0xE0000000, 0x8_0000_0000


def asleep(folder: Path) -> Definition:
    """A VM whose firmware is `cli; hlt`, in a file in `folder`."""
    firmware = folder / "asleep.bin"
    firmware.write_bytes(bytes.fromhex("faf4ebfd").rjust(0x10000 - 12, b"\0") + bytes(12))
    return msgspec.structs.replace(load("none"), args=["-bios", str(firmware)])


class Qtest:
    """A connection to a QEMU that runs already."""

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    @contextlib.asynccontextmanager
    async def attached(cls, vm: VM) -> "AsyncIterator[Qtest]":
        """In this block, once in a VM's life: QEMU 10.0 may crash when the object is deleted."""
        qtest = cls(vm)
        ours, theirs = socket.socketpair()
        with theirs:
            vm.monitor.send_fd(theirs.fileno())
            await vm.execute("getfd", {"fdname": "qtest"})
        address = {"type": "fd", "data": {"str": "qtest"}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        await vm.execute("chardev-add", {"id": "qtest", "backend": backend})
        qtest._reader, qtest._writer = await asyncio.open_connection(sock=ours)
        its = {"qom-type": "qtest", "id": "qtest0", "chardev": "qtest", "log": "none"}
        await vm.execute("object-add", its)
        try:
            yield qtest
        finally:
            qtest._writer.close()

    async def __call__(self, *words: object) -> int:
        """One access, `writel` or `inb`, an address and mostly a value; the value that was read."""
        line = " ".join(f"{word:#x}" if isinstance(word, int) else str(word) for word in words)
        self._writer.write(f"{line}\n".encode())
        answer = await wait(self._reader.readline(), what=line, timeout=30, alive=[self.vm.process])
        status, *value = answer.decode().split()
        assert status == "OK", f"{line}: {answer!r}"
        return int(value[0], 16) if value else 0


class Function:
    """An emulated device as its guest's driver sees it: the VM's `number`th, on bus 0."""

    def __init__(self, qtest: Qtest, number: int = 0) -> None:
        self.qtest = qtest
        self.vm = qtest.vm
        self._base = 0x80000000 | (FIRST_SLOT + number) << 11

    async def config(self, offset: int) -> int:
        """32 bits of configuration space."""
        await self.qtest("outl", ADDRESS, self._base | offset & ~3)
        return await self.qtest("inl", DATA)

    async def set_config(self, offset: int, value: int, code: str = "w") -> None:
        """Write `b`, `w` (16 bits) or `l` there."""
        await self.qtest("outl", ADDRESS, self._base | offset & ~3)
        await self.qtest(f"out{code}", DATA + offset % 4, value)

    async def capability(self, number: int) -> int:
        """Its offset."""
        at = await self.config(CAPABILITIES) & 0xFF
        while at:
            header = await self.config(at)
            if header & 0xFF == number:
                return at
            at = header >> 8 & 0xFF
        raise AssertionError(f"no capability {number:#x}")

    async def map(self, *places: int) -> None:
        """Put BARs 0, 1, ... there and switch them on."""
        for index, place in enumerate(places):
            await self.set_config(BAR0 + 4 * index, place & 0xFFFFFFFF, "l")
            if place >> 32:
                await self.set_config(BAR0 + 4 * index + 4, place >> 32, "l")
        await self.set_config(COMMAND, MEMORY | BUS_MASTER)

    async def enable_msix(self, on: bool = True) -> None:
        """Or switch it off again."""
        control = await self.capability(MSIX) + 2
        await self.set_config(control, MSIX_ENABLE if on else 0)


Act = Callable[[Function], Awaitable[None]]


class Driver(Observer):
    """Uses the first device of a VM that is `asleep`: before it migrates, and after that."""

    def __init__(self, before: Act | None = None, after: Act | None = None) -> None:
        self._acts = {Phase.STARTED: before, Phase.CHECKED: after}

    async def reached(self, phase: Phase, run: "Run") -> None:
        """At the source once both run, at the destination at the end."""
        act = self._acts.get(phase)
        if act is not None:
            vm = run.source if phase is Phase.STARTED else run.destination
            async with Qtest.attached(vm) as qtest:
                await act(Function(qtest))
