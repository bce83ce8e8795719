"""A QEMU that a signal has stopped: it would be waited for as long as one that is slow."""

import asyncio

from qmptests.hosts import WaitTimeout, is_stopped, life
from qmptests.vm.vm import VM

#: Seconds between two looks at a QEMU that is stopped.
LOOK_S = 0.2


class Halt:
    """Ends what a run waits for, as `hosts.wait` watches it, if one of its QEMUs stays stopped."""

    name = "the run"

    def __init__(self) -> None:
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exited.add_done_callback(lambda done: done.cancelled() or done.exception())

    def last_lines(self, count: int = 5) -> list[str]:  # noqa: ARG002
        """Nothing: it is no process."""
        return []

    def over(self) -> None:
        """Nothing is waited for any more: from now on who stays stopped is killed."""
        if not self.exited.done():
            self.exited.set_result(None)


class Qemu:
    """One QEMU, for `hosts.Guard`."""

    def __init__(self, vm: VM, halt: Halt) -> None:
        self.vm = vm
        self.halt = halt

    async def answer(self) -> None:
        """Returns unless a signal has stopped it, or once it goes on or has ended."""
        while self.vm.alive and is_stopped(self.vm.process.pid):
            await asyncio.sleep(LOOK_S)

    def lose(self, why: str) -> None:  # noqa: ARG002 - it has its own words
        """End the run's waiting; kill it if that is over."""
        if self.halt.exited.done():
            self.vm.kill_at_once()
        else:
            what = f"{self.vm.name} to go on, which a signal has stopped"
            tail = [f"{self.vm.name}: {line}" for line in self.vm.process.last_lines()]
            self.halt.exited.set_exception(WaitTimeout(what, life.SILENT_S, tail))
