"""One of our own processes stops or dies: the outcome is there in time, and says who was lost.

`benchmarks/lost.py` does it to each of them, in each phase.
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from qmptests.errors import EnvironmentFailure
from qmptests.hosts import life
from qmptests.migration import Observer, Phase, Run
from qmptests.outcome import Result, folder

SILENT_S = 1.0
#: The command with less patience than it has.
IMPATIENT = (
    "-c",
    f"from qmptests.hosts import life; life.SILENT_S = {SILENT_S}; "
    "from qmptests.cli.main import main; main()",
)
#: A migration that never ends by itself, with a device on both sides.
ENDLESS = ("--device", "busy", "--parameter", "max-bandwidth=1M", "--timeout", "1")


@pytest.mark.parametrize(
    ("victim", "result", "lost"),
    [
        ("launcher", Result.ENVIRONMENT, "the launcher gave no sign of life for 1 s and was"),
        (
            "source-supervisor",
            Result.EMULATION_FAILED,
            "source: the supervisor of source died first: it gave no sign of life for 1 s",
        ),
    ],
)
def test_one_that_is_stopped_is_lost_and_the_evidence_is_not(
    migrate: Callable[..., Any], victim: str, result: Result, lost: str
) -> None:
    command = migrate(*ENDLESS, python=IMPATIENT)
    transcript = command.folder / "out.partial" / "source.qmp.jsonl"
    command.until(
        lambda: transcript.exists() and '"active"' in transcript.read_text(), "the migration"
    )
    os.kill(command.find(victim), signal.SIGSTOP)
    ended = command.finish()
    assert ended.status == 3, ended
    outcome = folder.load(command.folder / "out")
    assert (outcome.result, outcome.error[: len(lost)]) == (result, lost)
    assert re.search(r"timed out after \S+ s waiting for migration status", outcome.error)
    assert lost in ended.out
    assert ended.seconds < 1 + SILENT_S + life.SILENT_S + 5


def test_a_command_that_is_killed_has_its_evidence_named(migrate: Callable[..., Any]) -> None:
    command = migrate(*ENDLESS)
    command.until(lambda: command.find("destination"), "the destination")
    os.kill(command.popen.pid, signal.SIGKILL)
    ended = command.finish()
    partial = command.folder / "out.partial"
    words = f"the command died; what there is of the evidence is in {partial}"
    assert ended.error_lines == [f"qmptests: error: {words}"]
    assert (partial / "source.qmp.jsonl").exists()


def test_a_command_that_was_stopped_finds_what_its_vms_did_meanwhile(
    migrate: Callable[..., Any],
) -> None:
    """Ctrl-Z and `fg`, with the deadline in between: the time does not count."""
    command = migrate("--vm", "none", "--timeout", "2", "--parameter", "max-bandwidth=8M")
    transcript = command.folder / "out.partial" / "source.qmp.jsonl"
    command.until(
        lambda: transcript.exists() and '"active"' in transcript.read_text(), "the migration"
    )
    os.kill(command.popen.pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(command.popen.pid, signal.SIGCONT)
    ended = command.finish()
    assert ended.status == 0, ended


class Signal(Observer):
    """Fault: a signal to the launcher when a phase is reached."""

    def __init__(self, number: signal.Signals, phase: Phase) -> None:
        self.number = number
        self.phase = phase

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is self.phase:
            assert run.source.host._popen is not None
            os.kill(run.source.host._popen.pid, self.number)


class Person(Observer):
    """Looks at a QEMU, which a signal stops meanwhile, for longer than anybody waits for one."""

    async def judged(self, result: Result, error: str, run: Run) -> None:  # noqa: ARG002
        run.source.process.signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        assert run.source.alive
        run.source.process.signal(signal.SIGCONT)


def test_what_a_person_stops_in_a_pause_is_not_lost(
    migration: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "SILENT_S", 0.1)
    monkeypatch.setattr(life, "AGAIN_S", 0.1)
    ready = migration(vm="none", timeout_s=1.0, pause_on_failure=True)
    assert ready.run(Person()).completed


@pytest.mark.parametrize(
    ("number", "phase"),
    [
        (signal.SIGSTOP, Phase.ACTIVE),
        (signal.SIGKILL, Phase.ACTIVE),
        (signal.SIGKILL, Phase.LISTENING),
        (signal.SIGKILL, Phase.CHECKED),
    ],
)
def test_a_lost_launcher_costs_no_evidence(
    migration: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    phase: Phase,
) -> None:
    """In a test: an error or an outcome, and the outcome is written. The next one has another."""
    monkeypatch.setattr(life, "SILENT_S", SILENT_S)
    ready = migration(timeout_s=1.0, parameters={"max-bandwidth": 1 << 20})
    if phase is Phase.CHECKED:
        ready = migration(timeout_s=30.0)
    try:
        said = repr(ready.run(Signal(number, phase)))
    except EnvironmentFailure as error:
        said = "; ".join([str(error), *error.__notes__])
    assert re.search(rf"the launcher (died|gave no sign).*evidence.*{ready.output}", said)
    assert folder.load(ready.output).result is Result.ENVIRONMENT
    assert migration(vm="none").run().completed
