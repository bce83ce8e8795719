"""The evidence of one attempt: each side's logs as moments in order of time.

Whatever is missing, cut off or somebody else's becomes a line of `Evidence.problems`; what is left
is still read.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from qmptests import files
from qmptests.downtime import addresses, reading
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.ordering import STEP_US, in_order
from qmptests.errors import InputError
from qmptests.outcome import folder as outcomes
from qmptests.outcome.record import AttemptRecord, OutcomeRecord, SideRecord
from qmptests.trace import formats
from qmptests.vfio import calls_read, descriptors

SOURCE = "source"
DESTINATION = "destination"

#: From when to when, in microseconds.
ALWAYS = (0, 1 << 62)

TRACE_LOG = ".trace.log"
QMP_LOG = ".qmp.jsonl"
CALL_LOG = ".vfio.jsonl"
GUEST_LOG = ".guest.jsonl"
MESSAGES = ".stderr.log"
_LOGS = (TRACE_LOG, QMP_LOG, CALL_LOG, GUEST_LOG, MESSAGES)

#: A QMP event has QEMU's time, but stands where we came to read it, be it seconds later.
QMP_STEP_US = 60_000_000

_Reader: TypeAlias = Callable[[Path, reading.Tell], Iterator[list[Moment]]]


class Evidence:
    """What is known of one attempt.

    `outcome` and `attempt` are None if outcome.json can't be read, or says of none. `sides`: the
    name of each role's logs, {"source": "source", "destination": "destination-2"}; a role is
    missing if it never began. `problems`: grows while logs are read.
    """

    def __init__(
        self, folder: Path, outcome: OutcomeRecord | None, attempt: int, problems: list[str]
    ) -> None:
        self.folder = folder
        self.outcome = outcome
        self.problems = problems
        #: Whether any log gave anything.
        self.anything = False
        self._told: set[tuple[str, str]] = set()
        self._records: dict[str, SideRecord] = {}
        self.attempt: AttemptRecord | None = None
        if outcome is None:
            self.sides = _guess(folder, attempt)
        else:
            self.attempt = _attempt(outcome, attempt, folder)
            self.sides = self._recorded(outcome)
        for role in (SOURCE, DESTINATION):
            if role not in self.sides or not _logs(folder, self.sides[role]):
                problems.append(f"there is no log of the {role}: what happened there is missing")

    @property
    def began_us(self) -> int | None:
        """When the attempt's `migrate` was sent, if outcome.json says so."""
        return None if self.attempt is None else round(self.attempt.started * 1e6)

    @property
    def span(self) -> tuple[int, int]:
        """What of the source's logs is the attempt's, in microseconds.

        From the end of the attempt before, or the VM's start, to the beginning of the next one.
        """
        since, until = ALWAYS
        if self.outcome is not None and self.attempt is not None:
            for other in self.outcome.attempts:
                if other.started > self.attempt.started:
                    until = min(until, round(other.started * 1e6))
                elif other is not self.attempt:
                    since = max(since, round(other.ended * 1e6))
        return since, until

    @cached_property
    def addresses(self) -> dict[str, str]:
        """Sections of the stream, as `0000:00:10.0/vfio`, and the device whose each is."""
        found: dict[str, str] = {}
        for side in self.sides.values():
            found.update(addresses.of(self._argv(side)))
        return found

    def devices(self, role: str) -> list[str]:
        """Names of the side's emulated devices, in the order of their descriptors."""
        side = self.sides.get(role, role)
        if side in self._records and self._records[side].devices:
            return [device.name for device in self._records[side].devices]
        header = self._header(side)
        return [] if header is None else header.names

    def moments(
        self, role: str, witness: Witness, names: Collection[str] | None = None
    ) -> Iterator[Moment]:
        """What the witness saw on that side, in order of time; `names`: these events only.

        `role`: a key of `sides`, or a side's own name.
        """
        for stream in self.streams(role, [witness], names):
            yield from chain.from_iterable(stream)

    def streams(
        self, role: str, witnesses: Collection[Witness], names: Collection[str] | None = None
    ) -> list[Iterator[list[Moment]]]:
        """The same for several witnesses: for each log lists of moments, each log in order."""
        side = self.sides.get(role, role)
        readers = self._readers(side, frozenset(witnesses), frozenset(names or ()))
        return [
            self._ordered(f"{side}{log}", batches)
            for log, batches in readers
            if self._exists(side, log)
        ]

    def _readers(
        self, side: str, witnesses: frozenset[Witness], names: frozenset[str]
    ) -> Iterator[tuple[str, _Reader]]:
        began = self._began(side)
        if Witness.QMP in witnesses:
            devices = self.devices(side)
            yield QMP_LOG, lambda path, tell: reading.qmp(path, side, names, devices, tell)
        if Witness.CALLS in witnesses:
            yield CALL_LOG, lambda path, tell: reading.calls(path, side, names, tell)
        if Witness.GUEST in witnesses:
            yield GUEST_LOG, lambda path, tell: reading.guest(path, side, names, tell)
        if Witness.MESSAGE in witnesses and not names:
            yield MESSAGES, lambda path, _: reading.messages(path, side, began)
        if witnesses & {Witness.TRACE, Witness.MESSAGE}:
            about = self._about(side)
            yield (
                TRACE_LOG,
                lambda path, tell: reading.trace(path, side, witnesses, names, about, began, tell),
            )

    def _ordered(self, log: str, reader: _Reader) -> Iterator[list[Moment]]:
        def tell(kind: str, problem: str) -> None:
            self._tell(log, kind, problem)

        path = self.folder / log
        step_us = QMP_STEP_US if log.endswith(QMP_LOG) else STEP_US
        try:
            for batch in in_order(reader(path, tell), log, tell, step_us):
                self.anything = self.anything or bool(batch)
                yield batch
        except InputError as error:
            tell("unreadable", str(error))

    def _tell(self, log: str, kind: str, problem: str) -> None:
        """Each kind once, however often the log is read."""
        if (log, kind) not in self._told:
            self._told.add((log, kind))
            if problem not in self.problems:
                self.problems.append(problem)

    def _exists(self, side: str, log: str) -> bool:
        if (self.folder / f"{side}{log}").exists():
            try:
                files.within(self.folder, f"{side}{log}")
            except InputError as error:
                self._tell(f"{side}{log}", "outside", str(error))
                return False
            if log == CALL_LOG:
                self._expect_end(f"{side}{log}")
            return True
        record = self._records.get(side)
        awaited = {
            TRACE_LOG: True,
            QMP_LOG: True,
            CALL_LOG: record is not None and bool(record.devices),
            GUEST_LOG: record is not None and record.guest.reports > 0,
        }
        if awaited.get(log) and _logs(self.folder, side):
            name = f"{side}{log}"
            self._tell(name, "missing", f"{name} is not there: {_MISSED[log]} is missing")
        return False

    def _expect_end(self, log: str) -> None:
        """Where the outcome is written, a call log is finished."""
        with contextlib.suppress(OSError):  # told when it is read
            if self.outcome is not None and not calls_read.is_whole(self.folder / log):
                self._tell(log, "no end", f"{log}: it has no end: what came last may be missing")

    def _recorded(self, outcome: OutcomeRecord) -> dict[str, str]:
        """The attempt's sides."""
        sides = {}
        if outcome.source is not None:
            sides[SOURCE] = outcome.source
        index = -1 if self.attempt is None else self.attempt.destination
        if outcome.destinations[index:]:
            sides[DESTINATION] = outcome.destinations[index]
        for record in (*sides.values(), *outcome.destinations):
            self._records[record.name] = record
        return {role: record.name for role, record in sides.items()}

    def _began(self, side: str) -> int:
        """The time of lines that are written before anything that has one."""
        if self.outcome is not None:
            return round(self.outcome.created * 1e6)
        paths = [self.folder / f"{side}{log}" for log in _LOGS]
        return min((path.stat().st_mtime_ns // 1000 for path in paths if path.exists()), default=0)

    def _header(self, side: str) -> calls_read.Header | None:
        try:
            return calls_read.header(files.within(self.folder, f"{side}{CALL_LOG}"))
        except InputError:
            return None  # told when it is read

    def _argv(self, side: str) -> list[str]:
        if side in self._records:
            return self._records[side].argv
        header = self._header(side)
        return [] if header is None else header.argv

    def _about(self, side: str) -> Callable[[str, str], str]:
        """From an event's name and text: the device that it is about, by our name, or "".

        Up to 10.0 QEMU calls a device that it was given as a descriptor by that: VFIO_FD201.
        """
        names = self.devices(side)
        labels = {f"VFIO_FD{descriptors.device(n)}": name for n, name in enumerate(names)}
        places = addresses.of(self._argv(side))
        known: dict[str, str] = {}

        def about(name: str, text: str) -> str:
            if name.startswith("vfio_"):
                head = text[: text.find(")") + 1]
                device = known.get(head)
                if device is None:
                    label = formats.label(head) or ""
                    device = known[head] = labels.get(label, label)
                return device
            if name.startswith("vmstate_downtime_"):
                _, _, rest = text.partition(" idstr=")
                return places.get(rest.partition(" instance_id=")[0], "")
            return ""

        return about


_MISSED = {
    TRACE_LOG: "what QEMU traced",
    QMP_LOG: "what was said over QMP",
    CALL_LOG: "what the devices were asked",
    GUEST_LOG: "when the guest counted",
}


def _attempt(outcome: OutcomeRecord, attempt: int, folder: Path) -> AttemptRecord | None:
    count = len(outcome.attempts)
    if not count and attempt == -1:
        return None
    if not -count <= attempt < count:
        number = attempt + 1 if attempt >= 0 else attempt
        raise InputError(f"{folder} has no attempt {number}: there were {count}")
    return outcome.attempts[attempt]


def _logs(folder: Path, side: str) -> bool:
    """Whether there is any log of this side."""
    return any((folder / f"{side}{log}").exists() for log in _LOGS)


def _guess(folder: Path, attempt: int) -> dict[str, str]:
    """The sides by the names of their logs: as many attempts as destinations."""
    sides = {SOURCE: SOURCE} if _logs(folder, SOURCE) else {}
    found = [DESTINATION]
    while _logs(folder, f"{DESTINATION}-{len(found) + 1}"):
        found.append(f"{DESTINATION}-{len(found) + 1}")
    if _logs(folder, found[attempt if -len(found) <= attempt < len(found) else -1]):
        sides[DESTINATION] = found[attempt]
    return sides


def open(folder: Path, attempt: int = -1) -> Evidence:  # noqa: A001 - sources.open
    """The evidence of an attempt, counted as a list's items are: the last one is -1.

    Raises InputError if the folder has no outcome at all, or no such attempt.
    """
    problems: list[str] = []
    outcome: OutcomeRecord | None = None
    try:
        outcome = outcomes.load(folder)
    except InputError as error:
        if not _guess(folder, attempt):
            raise
        problems.append(str(error))
    else:
        problems += outcome.evidence_problems
    return Evidence(folder, outcome, attempt, problems)
