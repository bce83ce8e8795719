"""SIGKILL of owner, launcher or one QEMU at random moments: 50 in all."""

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests.outcome import OutcomeRecord, Result, folder

#: Seconds that a QEMU lives, about, in a migration that nobody disturbs.
LIFETIME_S = 0.3


def kill(command: Any, victim: str, after_s: float) -> None:
    """SIGKILL `victim` some time after it appeared, if it is still there then."""
    found: list[int] = []

    def appeared() -> bool:
        pid = command.find(victim)
        found.extend([pid] if pid is not None else [])
        return bool(found)

    command.until(appeared, victim)
    time.sleep(after_s)
    for pid in found:
        if pid in command.running():
            os.kill(pid, signal.SIGKILL)


def killed_at_random(
    migrate: Callable[..., Any], victim: str, moments: int, *arguments: str
) -> list[Any]:
    """Migrations whose `victim` was killed, one in each slice of its life."""
    chance = random.Random(f"{victim} 1")
    ended = []
    for moment in range(moments):
        command = migrate(*arguments)
        kill(command, victim, chance.uniform(moment, moment + 1) / moments * LIFETIME_S)
        ended.append((command.folder, command.finish()))
    return ended


def the_only(evidence: Path) -> OutcomeRecord:
    """The outcome in a folder that was finished."""
    assert [path.name for path in evidence.glob("out*")] == ["out"]
    return folder.load(evidence / "out")


@pytest.mark.slow
def test_a_killed_owner_takes_everything_with_it(migrate: Callable[..., Any]) -> None:
    """Nobody is left to say anything, but what there was of the evidence is still there."""
    for evidence, ended in killed_at_random(migrate, "owner", 13):
        names = sorted(path.name for path in evidence.glob("out*"))
        assert names in (["out"], ["out.partial"], []), ended
        assert ended.status in {-signal.SIGKILL, 0}, ended
        if names == ["out.partial"]:
            assert not (evidence / "out.partial" / "outcome.json").exists() or ended.status != 0


@pytest.mark.slow
def test_a_killed_launcher_is_an_error_of_the_environment(migrate: Callable[..., Any]) -> None:
    statuses = []
    for evidence, ended in killed_at_random(migrate, "launcher", 12):
        statuses.append(ended.status)
        outcome = the_only(evidence)
        if ended.status == 0:
            assert outcome.result is Result.COMPLETED
        else:
            ended.said(3, "the launcher died, and all its processes with it")
            assert f"evidence: {evidence / 'out'}" in ended.err
            assert outcome.result is Result.ENVIRONMENT
    assert statuses.count(3) >= 3, statuses


@pytest.mark.slow
@pytest.mark.parametrize(("side", "moments"), [("source", 13), ("destination", 12)])
def test_a_killed_qemu_is_named(migrate: Callable[..., Any], side: str, moments: int) -> None:
    statuses = []
    for evidence, ended in killed_at_random(migrate, side, moments):
        statuses.append(ended.status)
        outcome = the_only(evidence)
        assert ended.err == ""
        if ended.status == 0:
            assert outcome.result is Result.COMPLETED
            continue
        assert ended.status == 1, ended
        lines = ended.out.splitlines()
        assert any(re.match(f"{side} .*; was killed by SIGKILL$", line) for line in lines), ended
        assert sum(line.startswith("because") for line in lines) == 1, ended
        assert outcome.error in ended.out
        assert outcome.result in {
            Result.SOURCE_DIED if side == "source" else Result.DESTINATION_DIED,
            Result.START_FAILED,
            Result.FAILED_DESTINATION_EXITED,
        }, outcome.error
    assert statuses.count(1) >= 3, statuses
