"""Hold an emulated device at a call, act while it is held, and let it go."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from qmptests.errors import InputError
from qmptests.migration.observers import Observer, Phase
from qmptests.vfio.emulation import Emulation

if TYPE_CHECKING:
    from qmptests.migration.run import Run
    from qmptests.vm.vm import VM

#: What is done while the call waits; QMP answers meanwhile where docs/reference says so.
Act = Callable[["Run"], Awaitable[None]]


class WhenHeld(Observer):
    """Each time a device of `side` is held (`do = "hold"` in its script): `act`, then release.

    `act` gets the run. What it raises ends the migration's test; the device is released first.
    `count`: how often that happened.
    """

    def __init__(self, side: str, act: Act) -> None:
        self.side = side
        self.act = act
        self.count = 0
        self._task: asyncio.Task[None] | None = None

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Watch from the start of the VMs to their end."""
        if phase is Phase.STARTED:
            emulation = self._vm(run).emulation
            if emulation is None:
                raise InputError(f"the {self.side} has no emulated device that could be held")
            self._task = asyncio.create_task(self._watch(emulation, run))
        elif phase is Phase.STOPPED and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _vm(self, run: "Run") -> "VM":
        return run.source if self.side == "source" else run.destination

    async def _watch(self, emulation: Emulation, run: "Run") -> None:
        seen = 0
        while True:
            event = await emulation.events.expect(lambda event: event.name == "held", seen)
            seen = event.last_number + 1
            self.count += 1
            try:
                await self.act(run)
            finally:
                await emulation.request("release")
