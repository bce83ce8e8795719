"""Pause on failure: everything stays as it is until a person has looked at it."""

import asyncio
import contextlib
import os
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qmptests import hosts, pasting
from qmptests.migration.observers import Observer
from qmptests.outcome.record import Result
from qmptests.vm import terminal
from qmptests.vm.vm import VM

if TYPE_CHECKING:
    from qmptests.migration.run import Run


class PauseOnFailure(Observer):
    """Holds a run whose result is not the expected one, before anything is stopped.

    `say` gets each line of what there is to look at. Goes on when Enter is pressed on the
    terminal, or when all QEMUs have ended. With `Plan.pause_on_failure` each QEMU has a QMP
    socket for this.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    async def judged(self, result: Result, error: str, run: "Run") -> None:
        """Pause, unless the result is the expected one or no QEMU lives."""
        live = [vm for vm in run.vms if vm.alive]
        if result == run.plan.expected or not live:
            return
        reason = f": {error}" if error else ""
        self._say(f"paused: {result} (expected: {run.plan.expected}){reason}")
        for vm in run.vms:
            for line in _about(vm):
                self._say(line)
        self._say(f"{'evidence':<12} {run.folder}")
        fd = terminal.open_terminal(os.O_RDONLY | os.O_NONBLOCK)
        if fd is not None:  # what was typed before the pause is not meant for it
            with contextlib.suppress(termios.error):
                termios.tcflush(fd, termios.TCIFLUSH)
        for vm in live:
            vm.released = True
        gone = asyncio.ensure_future(asyncio.wait({vm.process.exited for vm in live}))
        enter = asyncio.ensure_future(_line_from(fd) if fd is not None else asyncio.Event().wait())
        self._say(f"{'go on' if fd is None else 'press Enter':<12} {_END[fd is not None]}")
        try:
            either: set[asyncio.Future[Any]] = {gone, enter}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await asyncio.gather(hosts.abandon(gone), hosts.abandon(enter))
            if fd is not None:
                os.close(fd)


#: How the pause ends: without a terminal, and with one.
_END = (
    "by ending every QEMU (QMP: quit), or interrupt with Ctrl-C",
    "to stop both QEMUs and write the outcome; ending both does the same",
)


def _about(vm: VM) -> list[str]:
    """How to get at one QEMU."""
    if not vm.alive:
        end = vm.process.status if vm.spawned else None
        return [f"{vm.name:<12} {end or 'never started'}"]
    path = vm.options.monitor_socket
    if not path:
        return [f"{vm.name:<12} pid {vm.process.pid}"]
    return [
        f"{vm.name:<12} pid {vm.process.pid}, QMP at {path}",
        f"{'':<12} qmp-shell {pasting.word(path)}",
        f"{'':<12} socat READLINE {pasting.word(f'UNIX-CONNECT:{path}')}",
    ]


async def _line_from(fd: int) -> None:
    """Returns at the end of a line, or when the terminal is gone."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                os.read(fd, 4096)  # a terminal hands over whole lines
                return
    except OSError:
        return
    finally:
        loop.remove_reader(fd)
