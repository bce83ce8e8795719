"""What became of a migration: decided here and nowhere else. Pure."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from qmptests.errors import EnvironmentFailure, TestedFailure
from qmptests.hosts import ExitStatus, ProcessDied, WaitTimeout
from qmptests.migration.observers import Phase
from qmptests.migration.sanitizers import Report
from qmptests.outcome.record import (
    NO_FAULT_OF_QEMU,
    DeviceRecord,
    DmaRecord,
    Result,
    SideRecord,
)
from qmptests.qmp import CommandError

#: What a device writes to memory at a time, bytes.
DMA_PAGE = 4096
#: Run states of a VM whose guest does not run (qapi/run-state.json); the rest is in between.
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Observed:
    """What both sides say once the source has reached the end of a migration.

    `status`: the source's migration status. `error`: its own text. `destination_words`: what the
    destination wrote to its standard error, where the cause mostly stands: the source often knows
    of a broken pipe only. Run states are "" for a process that is gone. `memory_right`: None if
    it was not looked at. `checkable`: the guest is one whose memory can be. `ran_on`: it was seen
    to run at the destination.
    """

    status: str
    error: str = ""
    destination_words: str = ""
    source_runstate: str = ""
    destination_runstate: str = ""
    destination_alive: bool = True
    memory_right: bool | None = None
    memory_problem: str = ""
    reboots: int = 0
    checkable: bool = False
    ran_on: bool = False


def of_end(seen: Observed) -> tuple[Result, str]:
    """The result and, unless it is completed, the reason in one line.

    QEMU's word "completed" alone is not believed: with the wrong settings two running guests
    have been called a success.
    """
    if seen.status != "completed" and seen.source_runstate and seen.destination_runstate == RUNNING:
        return (
            Result.BOTH_RUNNING,
            f"the source says {seen.status}, but the guest runs at the destination, too",
        )
    if seen.status == "cancelled":
        return Result.CANCELLED, "the migration was cancelled"
    if seen.status == "failed":
        reason = seen.error or "QEMU gives no reason"
        if seen.destination_words:
            reason = f"{reason}; the destination said: {seen.destination_words}"
        if seen.destination_alive:
            return Result.FAILED_DESTINATION_ALIVE, reason
        return Result.FAILED_DESTINATION_EXITED, reason
    if not seen.destination_alive:
        said = f": {seen.destination_words}" if seen.destination_words else ""
        return (
            Result.DESTINATION_DIED,
            f"the source says {seen.status}, but the destination died afterwards{said}",
        )
    if seen.source_runstate == RUNNING and seen.destination_runstate == RUNNING:
        return Result.BOTH_RUNNING, "the guest runs on both sides"
    if seen.source_runstate == RUNNING or seen.destination_runstate != RUNNING:
        source, destination = (
            s or "gone" for s in (seen.source_runstate, seen.destination_runstate)
        )
        return (
            Result.NOT_RUNNING,
            f"the source says {seen.status}, but the destination is {destination} "
            f"and the source {source}",
        )
    if seen.reboots:
        return Result.GUEST_REBOOTED, "the guest started anew at the destination"
    if seen.memory_right is False:
        return Result.MEMORY_WRONG, seen.memory_problem
    if seen.checkable and seen.memory_right is None:
        return Result.GUEST_NOT_CHECKED, "nobody looked at the guest's memory at the destination"
    if seen.checkable and not seen.ran_on:
        return (
            Result.GUEST_NOT_CHECKED,
            "the guest was not seen to run at the destination: it has reported nothing, and its "
            "memory has not changed",
        )
    return Result.COMPLETED, ""


def of_error(error: BaseException, phase: Phase | None) -> Result:
    """The result when a run ended with an exception, `phase` being the last that was reached."""
    if not isinstance(error, TestedFailure):
        return Result.ENVIRONMENT if isinstance(error, Exception) else Result.INTERRUPTED
    if phase is None:
        return Result.START_FAILED
    if isinstance(error, ProcessDied):
        return Result.SOURCE_DIED if error.process == "source" else Result.DESTINATION_DIED
    if isinstance(error, CommandError):
        return Result.QMP_ERROR
    if isinstance(error, WaitTimeout):
        return Result.TIMED_OUT
    return Result.NOT_RUNNING


#: A process that one of these ends has crashed: nobody sends them to stop it (signal(7)).
CRASHES = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


@dataclass(frozen=True, slots=True)
class Remains:
    """What one QEMU left behind. `exit` is None while it lives.

    `report`: a sanitizer's first report in its standard error. `core`: what became of its
    core dump, in words. `wrapped`: its process was a debugger or a shell, which reports a death by
    signal as an exit status above 128. `asked`: it lived when we told it to quit. `killed`: it did
    not do so, and we killed it. `signalled`: QEMU says that a signal told it to end. `words`: its
    first complaint.
    """

    name: str
    exit: ExitStatus | None
    report: Report | None = None
    core: str = ""
    wrapped: bool = False
    asked: bool = True
    killed: bool = False
    signalled: bool = False
    words: str = ""

    @property
    def crashed(self) -> bool:
        """Whether it died of a fault of its own."""
        if self.exit is None:
            return False
        number = -self.exit.returncode
        if self.wrapped and self.exit.returncode > SHELL_SIGNAL:
            number = self.exit.returncode - SHELL_SIGNAL
        return self.exit.core_dumped or number in CRASHES

    @property
    def ended_by_itself(self) -> bool:
        """Whether it ended before it was told to, or otherwise than it was told to."""
        if self.exit is None:
            return False
        failed = self.exit.returncode != 0 and not self.killed
        return not self.asked or self.signalled or failed


#: What a shell adds to a signal's number for an exit status.
SHELL_SIGNAL = 128


def of_lost(result: Result, error: str, lost: Sequence[str]) -> tuple[Result, str]:
    """The result and reason when one of our own processes was lost, in these words, at the end.

    How a QEMU ended is not known then, and that is a part of every result.
    """
    words = [text for text in dict.fromkeys(lost) if text not in error]
    if not words or result is Result.INTERRUPTED:
        return result, error
    return Result.ENVIRONMENT, "; ".join(text for text in (*words, error) if text)


def of_remains(result: Result, error: str, remains: Sequence[Remains]) -> tuple[Result, str]:
    """The result and reason with the processes' ends: a crash outweighs what was seen before.

    Also one during teardown, when the migration itself had completed. And a QEMU that must outlive
    the migration does so until it is told to quit, and quits then.
    """
    reports = [f"{side.name}: {side.report.title}" for side in remains if side.report]
    crashed = [side for side in remains if side.crashed]
    if not reports and not crashed:
        return _of_ends(result, error, remains)
    words = [*reports, *(f"{side.name} {side.exit}" for side in crashed)]
    words = [text for text in words if not error.startswith(text)]
    words += [error, *dict.fromkeys(side.core for side in crashed)]
    found = Result.SANITIZER_REPORT if reports else Result.CRASHED
    return found, "; ".join(text for text in words if text)


#: Results that say of a QEMU that it lives: the source (the guest's home), or the destination.
_SOURCE_LIVES = frozenset(
    {
        Result.COMPLETED,
        Result.CANCELLED,
        Result.FAILED_DESTINATION_ALIVE,
        Result.FAILED_DESTINATION_EXITED,
        Result.QMP_ERROR,
    }
)
_DESTINATION_LIVES = frozenset({Result.COMPLETED})


def _of_ends(result: Result, error: str, remains: Sequence[Remains]) -> tuple[Result, str]:
    """The same where nothing crashed: who ended by itself after the migration was over?

    Of several destinations the last counts: the others' migrations failed.
    """
    lived = (
        (remains[:1], _SOURCE_LIVES, Result.SOURCE_DIED),
        (remains[1:][-1:], _DESTINATION_LIVES, Result.DESTINATION_DIED),
    )
    for sides, living, died in lived:
        for side in sides:
            if result in living and side.ended_by_itself:
                when = "when it was told to quit" if side.asked else "before it was told to quit"
                said = f": {side.words}" if side.words else ""
                text = f"{result}, but the {side.name} {side.exit} {when}{said}"
                return died, "; ".join(words for words in (text, error) if words)
    return result, error


def of_devices(
    result: Result, error: str, source: SideRecord | None, destinations: Sequence[SideRecord]
) -> tuple[Result, str]:
    """The result and reason with what the emulated devices have seen.

    An emulation that failed outweighs all: nothing that QEMU did after that counts. That data
    arrived whole is part of "completed"; and a rule that never fired makes any result worthless.
    """
    sides = [side for side in (source, *destinations) if side is not None]
    problems = [f"{side.name}: {text}" for side in sides for text in side.emulation_problems]
    if problems:
        return Result.EMULATION_FAILED, "; ".join(text for text in (*problems, error) if text)
    if result is Result.COMPLETED and source is not None and destinations:
        for device in source.devices:
            there = _same(device, destinations[-1])
            problem = _arrival_problem(device, there) or _dma_problem(device, there)
            if problem:
                return Result.DEVICE_DATA_WRONG, f"device {device.name}: {problem}"
    if result in (Result.INTERRUPTED, Result.ENVIRONMENT):
        return result, error
    fired = {
        (device.name, rule) for side in sides for device in side.devices for rule in device.fired
    }
    for side in sides:
        for device in side.devices:
            for rule in device.unfired:
                if (device.name, rule) not in fired:
                    words = f"device {device.name}: the rule '{rule}' never fired"
                    return Result.RULE_NEVER_FIRED, "; ".join(t for t in (words, error) if t)
    return result, error


def _same(device: DeviceRecord, side: SideRecord) -> DeviceRecord | None:
    """The device of that name on the other side."""
    return next((other for other in side.devices if other.name == device.name), None)


def _arrival_problem(sent: DeviceRecord, there: DeviceRecord | None) -> str:
    """What is wrong with what the other side's device got; "" for nothing."""
    if not sent.sent:
        return ""
    arrival = there.arrival if there else None
    if arrival is None:
        return "its data was sent, and none arrived"
    if not arrival.problem and arrival.chunks != sent.sent:
        got, want = (
            ", ".join(f"{c.kind} {c.generation}: {c.bytes} bytes" for c in chunks)
            for chunks in (arrival.chunks, sent.sent)
        )
        return f"it was given {got or 'nothing'}; sent was {want}"
    return arrival.problem


def _dma_problem(device: DeviceRecord, there: DeviceRecord | None) -> str:
    """What is wrong with the pages that a device wrote to memory; "" for nothing."""
    written = device.dma_written
    if written is None:
        return ""
    found = there.dma_found if there else None
    if found is None:
        return f"nobody looked for the {written.pages} pages that it had written to memory"
    if found.problems:
        return "; ".join(found.problems)
    arrived = _bursts(found)
    wrong = [
        (iova, burst, arrived.get(iova))
        for iova, burst in _bursts(written).items()
        if arrived.get(iova) != burst
    ]
    if not wrong:
        return ""
    iova, burst, other = wrong[0]
    came = f"burst {other} arrived" if other else "none arrived"
    more = f" (so with {len(wrong)} of {written.pages} pages)" if len(wrong) > 1 else ""
    return f"page at iova {iova:#x}: burst {burst} was written by DMA, {came}{more}"


def _bursts(record: DmaRecord) -> dict[int, int]:
    """Of each page by its address, the burst that wrote it last."""
    bursts: dict[int, int] = {}
    iova = record.start
    for run in record.runs.split():
        burst, _, pages = run.partition("*")
        end = iova + int(pages or 1) * DMA_PAGE
        if int(burst):
            bursts |= dict.fromkeys(range(iova, end, DMA_PAGE), int(burst))
        iova = end
    return bursts


def exit_code(result: Result, expected: Result, phase: str) -> int:
    """The command line's exit status for an outcome (design: 0 as expected, 1, 2, 3)."""
    if result == expected:
        return 0
    if result in NO_FAULT_OF_QEMU:
        return EnvironmentFailure.exit_code
    # A setting that QEMU refuses before anything was migrated is the user's to correct.
    if result is Result.QMP_ERROR and phase == Phase.STARTED:
        return 2
    return TestedFailure.exit_code
