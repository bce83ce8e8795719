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


#: Has both signals come before Python can look at either, while the command runs.
AT_ONCE = """
import os, signal, sys
from qmptests.cli import main
both = {signal.SIGINT, signal.SIGTERM}
def run():
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        os.kill(os.getpid(), number)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    except KeyboardInterrupt as error:
        return main._interrupted(error)
main._run = run
main.main()
"""

#: Has one meet a destructor, in which Python prints an error and forgets it.
IN_A_DESTRUCTOR = """
import os, signal, time
from qmptests.cli import main
class Careless:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
def run():
    try:
        Careless()
        time.sleep(60)
    except KeyboardInterrupt as error:
        return main._interrupted(error)
main._run = run
main.main()
"""


@pytest.mark.parametrize("program", [AT_ONCE, IN_A_DESTRUCTOR], ids=["two", "in-a-destructor"])
def test_an_interrupt_is_one_line(start: Callable[..., Any], program: str) -> None:
    ended = start(python=("-c", program)).finish()
    assert (ended.status, ended.err) == (130, "qmptests: interrupted\n")
