"""Phases of a run, and those who watch it. Faults are observers too: they act at a phase."""

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from qmptests.outcome.record import Result

if TYPE_CHECKING:
    from qmptests.migration.run import Run


class Phase(StrEnum):
    """Where a run is, in this order; all but the first and the last once for each attempt."""

    STARTED = "started"  # both QEMUs answered on QMP
    CONFIGURED = "configured"  # capabilities and parameters are set
    READY = "ready"  # the guest says that it lives
    LISTENING = "listening"  # the destination waits for the stream
    ACTIVE = "active"  # QEMU's state active: precopy
    PRE_SWITCHOVER = "pre-switchover"  # only with pause-before-switchover; held meanwhile
    ENDED = "ended"  # the source reported completed, failed or cancelled
    ARRIVED = "arrived"  # the destination runs
    CHECKED = "checked"  # guest and memory were looked at
    STOPPED = "stopped"  # both processes are gone


class Observer:
    """Override what you need. An exception from an observer ends the run."""

    #: Seconds between calls of `progress`; None: never.
    interval_s: float | None = None

    async def reached(self, phase: Phase, run: "Run") -> None:
        """A phase was reached; the run waits until this returns."""

    async def progress(self, status: dict[str, Any], run: "Run") -> None:
        """The source's `query-migrate` while the migration runs."""

    async def judged(self, result: Result, error: str, run: "Run") -> None:
        """The result is known, and nothing was stopped yet; not called after an interrupt."""


class Kill(Observer):
    """Fault: SIGKILL one side's QEMU when a phase is reached."""

    def __init__(self, side: str, phase: Phase) -> None:
        self.side = side
        self.phase = phase

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Kill the side, if this is the phase."""
        if phase is self.phase:
            vm = run.source if self.side == "source" else run.destination
            await vm.kill()
