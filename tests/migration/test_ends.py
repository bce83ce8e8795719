"""A migration that completed is not completed if a QEMU then ends by itself."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.migration import Observer, Phase, Run
from qmptests.outcome import Result

Migrate = Callable[..., Migration]


class SignalFromOutside(Observer):
    """Sends a side's QEMU a signal, as a person or the kernel would; awaits its end.

    `phase`: None for when the result is known already, and nothing was stopped.
    """

    def __init__(self, side: str, number: signal.Signals, phase: Phase | None) -> None:
        self.side = side
        self.number = number
        self.phase = phase

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is self.phase:
            await self.send(run)

    async def judged(self, result: Result, error: str, run: Run) -> None:  # noqa: ARG002
        if self.phase is None:
            await self.send(run)

    async def send(self, run: Run) -> None:
        process = (run.source if self.side == "source" else run.destination).process
        os.kill(process.pid, self.number)
        await asyncio.wait({process.exited}, timeout=30)


DIED = {"source": Result.SOURCE_DIED, "destination": Result.DESTINATION_DIED}


@pytest.mark.parametrize(
    ("side", "number", "phase"),
    [
        ("source", signal.SIGTERM, Phase.ENDED),
        ("source", signal.SIGKILL, Phase.CHECKED),
        ("source", signal.SIGTERM, None),
        ("destination", signal.SIGKILL, None),
        ("destination", signal.SIGTERM, Phase.CHECKED),
    ],
)
def test_a_qemu_that_is_ended_from_outside(
    migration: Migrate, side: str, number: signal.Signals, phase: Phase | None
) -> None:
    record = migration().run(SignalFromOutside(side, number, phase)).record
    assert record.attempts[-1].status == "completed"
    assert record.result is DIED[side], record.error
    if number is signal.SIGTERM:
        assert "terminating on signal 15" in record.error


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_qemu_that_fails_when_it_is_told_to_quit(migration: Migrate, side: str) -> None:
    shell = f'"$@"; [ {{side}} != {side} ]'
    record = migration(vm="none", wrapper=("sh", "-c", shell, "sh")).run().record
    assert record.result is DIED[side]
    assert (
        record.error == f"completed, but the {side} exited with status 1 when it was told to quit"
    )


def test_a_cancelled_migration_leaves_its_source(migration: Migrate) -> None:
    kill = SignalFromOutside("source", signal.SIGKILL, Phase.ENDED)
    record = migration(cancel_at="active").run(kill).record
    assert record.result is Result.SOURCE_DIED
