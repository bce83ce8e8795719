"""Trace logs of any QEMU version -> one stream of typed entries.

QEMU's log backend prints `NAME REST`. With `-msg timestamp=on` a prefix comes first:
`TID@SECONDS.MICROS:` up to 10.0, `2026-11-22T17:20:38.114063Z ` since 10.1 (commit 012842c075);
the latter has no fraction in the one case of a million in which it is zero. Both are the wall
clock (gettimeofday). All other lines (errors, warnings, output of libraries, a line that two
writers shared) become `Message`: no input raises, and no line is lost.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from qmptests import files
from qmptests.errors import InputError
from qmptests.trace import formats

CHUNK = 256 * 1024
"""Bytes read at once: enough to amortise the call, few enough not to hold up the event loop."""

MAX_LINE = 1024 * 1024
"""A line longer than about this many bytes is cut; what follows the cut is a `Message`."""

_LINE = re.compile(
    r"(?:(?P<tid>\d{1,10})@(?P<seconds>\d{1,12}\.\d{6}):"
    r"|(?P<date>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?P<fraction>\.\d{6})?Z )?"
    r"(?:(?P<name>\w+) (?P<text>.*)|(?P<other>.*))",
    re.ASCII | re.DOTALL,
)

_IDENTIFIER = re.compile(r"[A-Za-z]\w*", re.ASCII)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One trace event as logged."""

    name: str
    text: str
    """What follows the name and one blank, exactly; many vfio events begin with a second blank."""
    time_us: int | None
    """Microseconds since the epoch, or None without `-msg timestamp=on`."""
    tid: int | None
    """Kernel thread id; only logs of QEMU up to 10.0 with timestamps have it."""
    line: int
    """Line number in the log, from 1."""

    @property
    def args(self) -> dict[str, int | str]:
        """The arguments by name, parsed when asked for; see `formats.arguments`."""
        return formats.arguments(self.name, self.text)

    @property
    def label(self) -> str | None:
        """The device label: `vf0` in ` (vf0) new state ...`, or None."""
        return formats.label(self.text)

    def __str__(self) -> str:
        return f"{self.name} {self.text}".rstrip()


class Message(msgspec.Struct, frozen=True, gc=False):
    """A line that is no trace event: QEMU's own messages, and anything else."""

    text: str
    """The line without its timestamp; bytes that are not UTF-8 are written as `\\xNN`."""
    time_us: int | None
    line: int
    complete: bool = True
    """False for a last line without its end: the writer died or is still writing."""

    def __str__(self) -> str:
        return self.text


Entry: TypeAlias = Event | Message


class Parser:
    """Turns bytes, cut anywhere, into entries; holds one partial line and no history.

    `known` is the set of the build's event names (`builds` probes it). Without it any identifier
    with an underscore is taken for an event's name, as all of QEMU's but one have.
    """

    def __init__(self, known: Collection[str] | None = None) -> None:
        self._known = None if known is None else frozenset(known)
        self._names: dict[str, bool] = {}
        self._partial = b""
        self._in_cut_line = False
        self._lines = 0
        self._date = ""
        self._date_us: int | None = None

    @property
    def lines(self) -> int:
        """Complete lines seen so far."""
        return self._lines

    @property
    def partial(self) -> bool:
        """Whether the input so far ends inside a line."""
        return bool(self._partial) or self._in_cut_line

    def feed(self, data: bytes, only: Sequence[bytes] = ()) -> list[Entry]:
        """Entries of the lines that `data` completes.

        With `only`, data in which none of these names stand are counted and not looked at; the
        caller still has to select, since the rest comes whole.
        """
        head, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if newline:
            if only and not self._in_cut_line and not any(name in head for name in only):
                self._lines += head.count(b"\n") + 1
                return []
            return self._entries(head)
        if len(self._partial) <= MAX_LINE:
            return []
        head, self._partial = self._partial, b""
        entries = self._entries(head)
        self._lines -= 1
        self._in_cut_line = True
        return entries

    def close(self) -> list[Entry]:
        """The line that the end of the input cut off, if any, as an incomplete `Message`."""
        partial, self._partial, self._in_cut_line = self._partial, b"", False
        if not partial:
            return []
        return [Message(_decode(partial), None, self._lines + 1, complete=False)]

    def _entries(self, data: bytes) -> list[Entry]:  # noqa: PLR0912 - calls would cost a third
        # The hot loop: 1 to 2 us a line. A chunk is decoded at once, a date only when it changes,
        # a name checked only the first time.
        lines = _decode(data).split("\n")
        entries: list[Entry] = []
        append, match, names = entries.append, _LINE.fullmatch, self._names
        number = self._lines
        if self._in_cut_line:
            self._in_cut_line = False
            number += 1
            append(Message(lines.pop(0), None, number))
        for line in lines:
            number += 1
            found = match(line)
            if found is None:  # the pattern accepts anything; the type checker does not know
                continue
            tid, seconds, date, fraction, name, text, other = found.groups()
            time_us: int | None = None
            if date is not None:
                if date != self._date:
                    self._date, self._date_us = date, _epoch_us(date)
                if self._date_us is not None:
                    time_us = self._date_us + (int(fraction[1:]) if fraction else 0)
                else:
                    append(Message(line, None, number))
                    continue
            elif seconds is not None:
                time_us = int(seconds.replace(".", ""))
            if name is None:  # a log that lost its trailing blanks still has its events
                name, text = other, ""
            is_event = names.get(name)
            if is_event is None:
                is_event = self._is_event(name)
                if len(names) < 100_000:
                    names[name] = is_event
            if is_event:
                append(Event(name, text, time_us, int(tid) if tid else None, number))
            elif other is None:
                append(Message(f"{name} {text}", time_us, number))
            else:
                append(Message(other, time_us, number))
        self._lines = number
        return entries

    def _is_event(self, name: str) -> bool:
        if self._known is not None:
            return name in self._known
        return (
            "_" in name and name[0].isalpha() and re.fullmatch(r"\w+", name, re.ASCII) is not None
        )


def read(
    path: Path, *, known: Collection[str] | None = None, size: int | None = None
) -> Iterator[Entry]:
    """All entries of the log at `path`, in bounded memory.

    `size`: stop after so many bytes (a log that is still growing).

    Raises:
        InputError: the file can't be read.
    """
    for entries in read_batches(path, known=known, size=size):
        yield from entries


def read_batches(
    path: Path,
    names: Collection[str] = (),
    *,
    known: Collection[str] | None = None,
    size: int | None = None,
) -> Iterator[list[Entry]]:
    """As `read`, a list for each chunk of the file.

    With `names`, chunks without any of these are passed over; the others come whole, and what the
    end of the file cut off always does.
    """
    parser = Parser(known)
    only = [name.encode() for name in names]
    for data in _chunks(path, size):
        yield parser.feed(data, only)
    yield parser.close()


def read_events(
    path: Path,
    names: Collection[str],
    *,
    known: Collection[str] | None = None,
    size: int | None = None,
) -> Iterator[list[Event]]:
    """The events of these names only, a list for each chunk of the file; otherwise as `read`."""
    for entries in read_batches(path, names, known=known, size=size):
        yield select(entries, names)


def select(entries: list[Entry], names: Collection[str]) -> list[Event]:
    """The events of these names."""
    return [entry for entry in entries if isinstance(entry, Event) and entry.name in names]


def cannot_read(path: Path, error: OSError) -> InputError:
    """The error for a log that can't be read."""
    return InputError(f"can't read the trace log {path}: {error.strerror}")


def _chunks(path: Path, size: int | None) -> Iterator[bytes]:
    left = size
    try:
        with files.open_log(path) as file:
            while data := file.read(CHUNK if left is None else min(CHUNK, left)):
                left = None if left is None else left - len(data)
                yield data
    except OSError as error:
        raise cannot_read(path, error) from error


def _decode(data: bytes) -> str:
    return data.decode("ascii") if data.isascii() else data.decode("utf-8", "backslashreplace")


def _epoch_us(date: str) -> int | None:
    try:
        return int(datetime.fromisoformat(date + "+00:00").timestamp()) * 1_000_000
    except ValueError:
        return None
