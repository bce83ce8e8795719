"""With emulated devices there are two more processes: killed or interrupted, nothing is left."""

import functools
import random
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from qmptests.outcome import Result
from tests.faults.test_kill import killed_at_random, the_only

DEVICE = ("--device", "busy")


@pytest.mark.slow
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_killed_supervisor_is_named_and_died_first(
    migrate: Callable[..., Any], side: str
) -> None:
    statuses = []
    for evidence, ended in killed_at_random(migrate, f"{side}-supervisor", 8, *DEVICE):
        statuses.append(ended.status)
        outcome = the_only(evidence)
        if ended.status == 0:
            assert outcome.result is Result.COMPLETED
            continue
        assert ended.status == 3, ended
        assert outcome.result is Result.EMULATION_FAILED, ended
        first = f"{side}: the supervisor of {side} died first: it was killed by SIGKILL"
        assert outcome.error.startswith(first), outcome.error
        assert outcome.error in ended.out
    assert statuses.count(3) >= 3, statuses


@pytest.mark.slow
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_killed_qemu_is_no_fault_of_the_emulation(migrate: Callable[..., Any], side: str) -> None:
    statuses = []
    for evidence, ended in killed_at_random(migrate, side, 8, *DEVICE):
        statuses.append(ended.status)
        outcome = the_only(evidence)
        if ended.status == 0:
            assert outcome.result is Result.COMPLETED
            continue
        lines = ended.out.splitlines()
        assert any(re.match(f"{side} .*; was killed by SIGKILL$", line) for line in lines), ended
        assert outcome.result in {
            Result.SOURCE_DIED if side == "source" else Result.DESTINATION_DIED,
            Result.START_FAILED,
            Result.FAILED_DESTINATION_EXITED,
        }, outcome.error
    assert statuses.count(1) >= 3, statuses


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["owner", "launcher"])
def test_a_killed_owner_or_launcher_takes_everything_with_it(
    migrate: Callable[..., Any], victim: str
) -> None:
    """`finish` looks for what is left: processes by their environment, and scratch files."""
    ended = [e for _, e in killed_at_random(migrate, victim, 6, *DEVICE)]
    assert {e.status for e in ended} <= {0, 3, -signal.SIGKILL}, ended
    assert any(e.status != 0 for e in ended), ended


@pytest.mark.slow
def test_an_interrupt_leaves_nothing(migrate: Callable[..., Any]) -> None:
    chance = random.Random(1)
    statuses = []
    for moment in range(8):
        command = migrate(*DEVICE)
        command.until(functools.partial(command.find, "destination"), "the destination")
        time.sleep(chance.uniform(moment, moment + 1) / 8 * 0.4)
        command.interrupt(signal.SIGINT)
        ended = command.finish()
        statuses.append(ended.status)
        assert ended.status in (0, 130), ended
    assert 130 in statuses
