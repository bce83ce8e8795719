"""How much was traced, and whether that disturbed the migration it watched."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from qmptests.trace import events
from qmptests.trace.parser import Entry, Event

WINDOW_US = 100_000
PERTURBING_LINES = 1_000
"""Lines in 100 ms from which times count as perturbed: at 2.9 us a line (measured), 3 %."""


class Volume(msgspec.Struct):
    """What one trace log holds, as data for the outcome."""

    lines: int = 0
    bytes: int = 0
    messages: int = 0
    """Lines that are no trace events."""
    truncated: bool = False
    """Whether the last line lacks its end."""
    first_us: int | None = None
    last_us: int | None = None
    """Wall clock of the first and the last entry, microseconds; None without timestamps."""
    peak_lines: int = 0
    """The most lines within one window of 100 ms; 0 without timestamps."""
    events: dict[str, int] = msgspec.field(default_factory=dict)
    """Count by event name."""

    @property
    def events_per_second(self) -> float | None:
        """Mean rate from the first to the last entry; None without timestamps or duration."""
        if self.first_us is None or self.last_us is None or self.last_us <= self.first_us:
            return None
        return sum(self.events.values()) * 1e6 / (self.last_us - self.first_us)


class Meter:
    """Adds up a log's volume from its entries."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._messages = 0
        self._first_us: int | None = None
        self._last_us: int | None = None
        self._window = 0
        self._window_lines = 0
        self._peak_lines = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Count these entries."""
        names = [entry.name for entry in entries if type(entry) is Event]
        self.counts.update(names)
        self._messages += len(entries) - len(names)
        for entry in entries:
            if entry.time_us is not None:
                window = entry.time_us // WINDOW_US
                if window != self._window:
                    self._peak_lines = max(self._peak_lines, self._window_lines)
                    self._window, self._window_lines = window, 0
                self._window_lines += 1
                self._last_us = entry.time_us
                if self._first_us is None:
                    self._first_us = entry.time_us

    def volume(self, *, lines: int, size: int, truncated: bool) -> Volume:
        """The volume so far."""
        return Volume(
            lines=lines,
            bytes=size,
            messages=self._messages,
            truncated=truncated,
            first_us=self._first_us,
            last_us=self._last_us,
            peak_lines=max(self._peak_lines, self._window_lines),
            events=dict(sorted(self.counts.items())),
        )


def is_perturbing(volume: Volume) -> bool:
    """Whether times measured beside this much tracing are to be marked perturbed."""
    if volume.peak_lines > PERTURBING_LINES:
        return True
    flooding = events.flooding(volume.events)
    return sum(volume.events[name] for name in flooding) > PERTURBING_LINES
