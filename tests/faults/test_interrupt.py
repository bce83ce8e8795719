"""Ctrl-C and `kill` at any moment: one line, nothing left running, and the evidence kept."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests.outcome import Result, folder

#: Seconds within which an interrupted command must have ended; a teardown takes 0.2.
AT_ONCE_S = 8.0


@pytest.fixture
def duration(migrate: Callable[..., Any]) -> float:
    """Seconds from the entry point to the end of a migration that nobody disturbs."""
    command = migrate()
    command.until(command.listens_to_signals, "the entry point")
    began = time.monotonic()
    assert command.finish().status == 0
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("number", "moments"), [(signal.SIGINT, 25), (signal.SIGTERM, 8)])
def test_an_interrupt_at_any_moment(
    migrate: Callable[..., Any], duration: float, number: signal.Signals, moments: int
) -> None:
    """One in each slice of the migration's time, at random within it."""
    chance = random.Random(f"{number.name} 1")
    statuses = []
    for moment in range(moments):
        command = migrate()
        command.until(command.listens_to_signals, "the entry point")
        time.sleep(chance.uniform(moment, moment + 1) / moments * duration)
        command.interrupt(number)
        ended = command.finish()
        statuses.append(ended.status)
        assert ended.seconds < AT_ONCE_S, (moment, ended)
        evidence = sorted(path.name for path in command.folder.glob("out*"))
        if ended.status == 0:
            assert ended.err == ""
        else:
            assert ended.status == 130, (moment, ended)
            assert ended.error_lines == ["qmptests: interrupted"], (moment, ended)
        if evidence:
            assert evidence == ["out"], (moment, ended)
            check_evidence(command.folder / "out", ended.err, ended.status)
    assert {0, 130} >= set(statuses)
    assert statuses.count(130) >= moments // 2


def check_evidence(out: Path, err: str, status: int) -> None:
    result = folder.load(out).result
    if status == 0:
        assert result is Result.COMPLETED
    else:
        assert result in {Result.INTERRUPTED, Result.COMPLETED}
        assert not err.strip().endswith("interrupted") or result is Result.COMPLETED


def test_an_impatient_second_interrupt_changes_nothing(migrate: Callable[..., Any]) -> None:
    command = migrate()
    command.until(lambda: command.find("destination"), "the destination")
    for _ in range(5):
        command.interrupt(signal.SIGINT)
        time.sleep(0.01)
    ended = command.finish()
    assert ended.status == 130
    assert ended.error_lines == ["qmptests: interrupted"]
    assert f"evidence: {command.folder / 'out'}" in ended.err
