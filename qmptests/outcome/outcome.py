"""The outcome as tests use it: the record, and where its evidence is."""

from pathlib import Path

from qmptests import printable
from qmptests.outcome import effects, unchecked
from qmptests.outcome.record import OutcomeRecord, Result, SideRecord
from qmptests.trace import TraceLog


class Side:
    """One side of a finished migration: its record and its trace log."""

    def __init__(self, record: SideRecord, folder: Path) -> None:
        self.record = record
        self.trace = TraceLog(folder / f"{record.name}.trace.log", enabled=record.trace.enabled)


class Outcome:
    """What one migration did. `folder` holds the evidence."""

    def __init__(self, record: OutcomeRecord, folder: Path) -> None:
        self._record = record
        self.folder = folder
        #: Whether somebody has asked what became of it.
        self.looked_at = False

    @property
    def record(self) -> OutcomeRecord:
        """outcome.json as objects."""
        self.looked_at = True
        return self._record

    @property
    def completed(self) -> bool:
        """Source completed, destination running, source not running, guest memory right."""
        return self.record.result is Result.COMPLETED

    @property
    def as_expected(self) -> bool:
        """Whether the result is the one that the plan named."""
        return self.record.result == self.record.plan.expected

    @property
    def unchecked(self) -> list[str]:
        """What was not checked, in words: "guest and memory not checked"; empty for nothing."""
        return unchecked.unchecked(self.record)

    @property
    def effects(self) -> dict[str, int | None]:
        """Of each capability that was on, how often its effect was seen; None: not checked."""
        return effects.effects(self.record)

    @property
    def source(self) -> Side:
        """The source, which is the same in all attempts."""
        assert self.record.source is not None, f"the source never started: {self}"
        return Side(self.record.source, self.folder)

    @property
    def destination(self) -> Side:
        """The last destination: there are several after a retry."""
        assert self.record.destinations, f"the destination never started: {self}"
        return Side(self.record.destinations[-1], self.folder)

    def __repr__(self) -> str:
        error = f": {self.record.error}" if self.record.error else ""
        text = f"<Outcome {unchecked.line(self.record)}{error}; evidence in {self.folder}>"
        return printable.one_line(text)
