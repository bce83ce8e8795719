"""Transports on which nothing comes back: a file, and a command that says nothing."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmptests.migration import Observer, Phase

if TYPE_CHECKING:
    from qmptests.migration import Run
    from qmptests.vm import VM

ENDED = ("completed", "failed", "cancelled")
DEADLINE_S = 20
#: Of a command that takes a stream until it reads a line from a FIFO; then its pipes are closed.
TAKE_UNTIL_TOLD = "exec 3<&0; cat <&3 > {saved} & read _ < {fifo}; kill $!"

Act = Callable[["Sent", "Run"], Any]


class Sent(Observer):
    """Before the plan's migration, a source's to nowhere, with the same capabilities.

    `act` is run meanwhile. The plan's own migration comes afterwards: what was not sent is there.
    """

    def __init__(self, kind: str, folder: Path, act: Act) -> None:
        self._saved, self._fifo = folder / "saved", folder / "fifo"
        command = TAKE_UNTIL_TOLD.format(saved=self._saved, fifo=self._fifo)
        self.uri = f"exec:{command}" if kind == "exec" else f"file:{self._saved}"
        self.kind = kind
        self._act = act
        self._mark = 0

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Send it once the guest lives."""
        if phase is not Phase.READY:
            return
        if self.kind == "exec":
            os.mkfifo(self._fifo)
        self._mark = run.source.monitor.events.mark
        await run.source.execute("migrate", {"uri": self.uri})
        await self._act(self, run)

    async def tell(self) -> None:
        """Have the command end."""
        await asyncio.to_thread(self._fifo.write_text, "\n")

    async def ended(self, source: "VM") -> dict[str, Any]:
        """Wait for the end of it; query-migrate."""
        await source.monitor.expect(
            "MIGRATION",
            lambda data: data["status"] in ENDED,
            what="the end of it",
            timeout=DEADLINE_S,
            since=self._mark,
        )
        return dict(await source.execute("query-migrate"))
