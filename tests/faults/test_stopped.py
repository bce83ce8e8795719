"""A QEMU that is there and does nothing: the deadline says what it waited for, and the teardown
does not wait for what can't come."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from qmptests.migration import Observer, Phase, Run
from qmptests.outcome import Result
from qmptests.vm.vm import QUIT_ANSWER_S

DEADLINE_S = 1.5


class Stop(Observer):
    """Fault: SIGSTOP one side's QEMU when a phase is reached."""

    def __init__(self, side: str, phase: Phase) -> None:
        self.side = side
        self.phase = phase
        self.pids: list[int] = []

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is self.phase:
            self.pids = [run.source.process.pid, run.destination.process.pid]
            vm = run.source if self.side == "source" else run.destination
            vm.process.signal(signal.SIGSTOP)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_side_that_stops(migration: Callable[..., Any], side: str) -> None:
    fault = Stop(side, Phase.ACTIVE)
    began = time.monotonic()
    outcome = migration(timeout_s=DEADLINE_S).run(fault)
    seconds = time.monotonic() - began
    assert outcome.record.result is Result.TIMED_OUT
    assert outcome.record.error.startswith("timed out after 1.")
    assert outcome.record.error.endswith("waiting for migration status completed from source")
    assert outcome.record.last_phase == Phase.ACTIVE
    exits = {vm.name: vm.exit for vm in (outcome.source.record, outcome.destination.record)}
    assert exits[side].text == "was killed by SIGKILL"
    other = exits["destination" if side == "source" else "source"]
    assert other.text == "exited with status 0"
    assert seconds < DEADLINE_S + QUIT_ANSWER_S + 3
    for pid in fault.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
