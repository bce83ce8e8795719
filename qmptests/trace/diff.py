"""Where two trace logs part ways: the same migration on two builds, or a good and a bad run.

Two runs never log the same bytes. So each line becomes a key without what differs for no reason:
time, thread, addresses, measured sizes and durations (see `events.MEASURED`), and arguments that
only one of the two logs has. Renamed events get their new name, and device labels are numbered
in the order in which they come up: `VFIO_FD4` in 10.0 and `vf0` in 11.1 are both the first device.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import msgspec

from qmptests.errors import InputError
from qmptests.trace import events, formats, parser
from qmptests.trace.parser import Entry, Event

WINDOWS = (16, 128, 1024, 8192)
"""How far to look for the place where both logs agree again, tried in turn, in lines."""

AGREEMENT = 3
"""Equal lines in a row that count as agreeing again."""

# User-space addresses of 64-bit Linux have twelve hex digits; offsets, guest addresses and
# stream markers that mean something have fewer or more.
_ADDRESS = re.compile(r"\b0x[0-9a-f]{12}\b")
_ID = re.compile(r"\b(pid|tid|fd|iommufd)([ =])\d+\b")

_NOTHING: frozenset[str] = frozenset()
_SAMPLE = 100  # events of each name that are looked at to learn which arguments a log has

Ignored: TypeAlias = Mapping[str, frozenset[str]]

_LABELLED = ("approver", "requester")  # arguments that hold a device label


class Line(msgspec.Struct, frozen=True):
    """One line of a log, as shown."""

    line: int
    text: str


class Divergence(msgspec.Struct, frozen=True):
    """The first place where the logs differ."""

    before: list[Line]
    """The last lines on which both agree, with A's line numbers."""
    a: list[Line]
    b: list[Line]
    """What either log has there; empty at its end."""


class Difference(msgspec.Struct, frozen=True):
    """What `compare` found."""

    equal: bool
    a_lines: int
    b_lines: int
    divergences: int
    """How many separate places differ."""
    first: Divergence | None
    only_a: dict[str, int]
    only_b: dict[str, int]
    """Events (by their 11.1 names) of which one log has none: name -> count in the other."""
    counts: dict[str, tuple[int, int]]
    """Events that both have, but not equally often: name -> (count in A, count in B)."""


def compare(a: Path, b: Path, *, context: int = 5) -> Difference:
    """Compare two logs; `context` is the number of lines to keep around the first divergence.

    Memory is bounded by the window in which agreement is sought, not by the logs.

    Raises:
        InputError: a log can't be read, or has lines but not one trace event.
    """
    ignored = _incomparable(a, b)
    left, right = _Reader(a, ignored), _Reader(b, ignored)
    before: deque[Line] = deque(maxlen=context)
    first: Divergence | None = None
    divergences = 0
    while True:
        head_a, head_b = left.peek(0), right.peek(0)
        if head_a is None and head_b is None:
            break
        if head_a is not None and head_b is not None and head_a[0] == head_b[0]:
            if first is None:
                before.append(_line(head_a[1]))
            left.take(1)
            right.take(1)
            continue
        divergences += 1
        if first is None:
            first = Divergence(list(before), left.show(context), right.show(context))
        skip_a, skip_b = _agreement(left, right)
        left.take(skip_a)
        right.take(skip_b)
    left.require_events()
    right.require_events()
    names = sorted(left.counts.keys() | right.counts.keys())
    return Difference(
        equal=divergences == 0,
        a_lines=left.lines,
        b_lines=right.lines,
        divergences=divergences,
        first=first,
        only_a={name: left.counts[name] for name in names if not right.counts[name]},
        only_b={name: right.counts[name] for name in names if not left.counts[name]},
        counts={
            name: (left.counts[name], right.counts[name])
            for name in names
            if left.counts[name] and right.counts[name] and left.counts[name] != right.counts[name]
        },
    )


class Normaliser:
    """Turns entries of one log into keys that compare across runs and versions.

    `ignored`: arguments to leave aside by event, beside those of `events.MEASURED`.
    """

    def __init__(self, ignored: Ignored | None = None) -> None:
        self._ignored = ignored or {}
        self._labels: dict[str, str] = {}

    def key(self, entry: Entry) -> tuple[str, ...]:
        """The comparable form: the name as in 11.1, then arguments or text."""
        if not isinstance(entry, Event):
            return ("", _plain(entry.text))
        name = events.RENAMES.get(entry.name, entry.name)
        label = entry.label
        device = "" if label is None else self._device(label)
        if entry.name not in formats.table():
            text = entry.text.lstrip()
            if label is not None:
                text = text[len(label) + 2 :].lstrip()
            return (name, device, _plain(text))
        args = entry.args
        aside = events.MEASURED.get(name, _NOTHING) | self._ignored.get(name, _NOTHING)
        parts = [name, device]
        for key in sorted(args.keys() - aside - {formats.LABEL}):
            value = str(args[key])
            parts.append(f"{key}={self._device(value) if key in _LABELLED else _plain(value)}")
        return tuple(parts)

    def _device(self, label: str) -> str:
        return self._labels.setdefault(label, f"device{len(self._labels)}")


def _incomparable(a: Path, b: Path) -> dict[str, frozenset[str]]:
    """Arguments that not all events of a name have: formats gain and lose them by version."""
    common: dict[str, frozenset[str]] = {}
    known: dict[str, frozenset[str]] = {}
    styles = set()
    for path in (a, b):
        sampled: Counter[str] = Counter()
        for batch in parser.read_events(path, formats.table().keys()):
            for event in batch:
                styles.add((event.time_us is not None, event.tid is not None))
                sampled[event.name] += 1
                if sampled[event.name] <= _SAMPLE:
                    name = events.RENAMES.get(event.name, event.name)
                    keys = frozenset(event.args)
                    common[name] = common.get(name, keys) & keys
                    known[name] = known.get(name, keys) | keys
    ignored = {name: known[name] - common[name] for name in known}
    return ignored if len(styles) <= 1 else {**ignored, **events.RENUMBERED}


def _plain(text: str) -> str:
    return _ID.sub(r"\1\2N", _ADDRESS.sub("0xADDRESS", text))


def _line(entry: Entry) -> Line:
    return Line(entry.line, str(entry))


class _Reader:
    """A log as keys, with as much look-ahead as was asked for."""

    def __init__(self, path: Path, ignored: Ignored) -> None:
        self._path = path
        self._ignored = ignored
        self.counts: Counter[str] = Counter()
        self.lines = 0
        self._stream = self._keyed()
        self._ahead: deque[tuple[tuple[str, ...], Entry]] = deque()

    def _keyed(self) -> Iterator[tuple[tuple[str, ...], Entry]]:
        normaliser = Normaliser(self._ignored)
        for entry in parser.read(self._path):
            self.lines = entry.line
            key = normaliser.key(entry)
            if key[0]:
                self.counts[key[0]] += 1
            yield key, entry

    def peek(self, index: int) -> tuple[tuple[str, ...], Entry] | None:
        self._fill(index + 1)
        return self._ahead[index] if index < len(self._ahead) else None

    def keys(self, count: int) -> list[tuple[str, ...]]:
        self._fill(count)
        return [key for key, _ in islice(self._ahead, count)]

    def show(self, count: int) -> list[Line]:
        self._fill(count)
        return [_line(entry) for _, entry in islice(self._ahead, count)]

    def take(self, count: int) -> None:
        for _ in range(min(count, len(self._ahead))):
            self._ahead.popleft()

    def require_events(self) -> None:
        if self.lines and not self.counts:
            raise InputError(
                f"{self._path} has {self.lines} lines but no trace event; is it a log?"
            )

    def _fill(self, count: int) -> None:
        if len(self._ahead) < count:
            self._ahead.extend(islice(self._stream, count - len(self._ahead)))


def _agreement(left: _Reader, right: _Reader) -> tuple[int, int]:
    """How many lines to skip on either side until both agree again: the nearest such place.

    Costs time in proportion to the distance, so a log that differs all over is no worse than
    one that differs once. Without agreement in the largest window, all of it is skipped.
    """
    for window in WINDOWS:
        keys_a, keys_b = left.keys(window), right.keys(window)
        places: dict[tuple[tuple[str, ...], ...], int] = {}
        for index in range(len(keys_b)):
            places.setdefault(tuple(keys_b[index : index + AGREEMENT]), index)
        best: tuple[int, int] | None = None
        for index in range(len(keys_a)):
            if best is not None and index >= sum(best):
                break
            place = places.get(tuple(keys_a[index : index + AGREEMENT]))
            if place is not None and (best is None or index + place < sum(best)):
                best = (index, place)
        if best is not None:
            return best
        if len(keys_a) < window and len(keys_b) < window:
            break
    return len(keys_a), len(keys_b)
