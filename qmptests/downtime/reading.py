"""The logs of one side as moments, in the order of each log: a reader for each witness.

Readers yield lists, since a million moments one by one would take twice the time. What is wrong
with a log goes to `tell`, as a kind of problem and its words. All raise InputError if the log can't
be read at all.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.ordering import ended
from qmptests.files import Count, Instant, Microseconds
from qmptests.trace import parser
from qmptests.trace.jsonl import JsonLog
from qmptests.trace.parser import Event
from qmptests.vfio.calls_read import Call, Note, Reader, pairs

T = TypeVar("T")
Tell: TypeAlias = Callable[[str, str], None]

#: Characters that are shown of an answer to a command.
LONGEST = 160
#: Characters that are kept of any text: thousands of moments are held back to be put in order.
LONGEST_TEXT = 16384
_BATCH = 1024


def trace(
    path: Path,
    side: str,
    witnesses: Collection[Witness],
    names: Collection[str],
    device: Callable[[str, str], str],
    began_us: int,
    tell: Tell,
) -> Iterator[list[Moment]]:
    """QEMU's trace log: its events, and lines that are none, if these witnesses are wanted.

    `names`: these events only, if any are given. `device` tells from an event's name and text which
    one it is about. A line without a time has that of the line before, the first `began_us`.
    """
    at = began_us
    untimed = foreign = first = 0
    traced, event = Witness.TRACE, Event
    events, messages = traced in witnesses, Witness.MESSAGE in witnesses
    for entries in parser.read_batches(path, names):
        moments: list[Moment] = []
        append = moments.append
        for entry in entries:
            if (time_us := entry.time_us) is not None:
                at = time_us
            if isinstance(entry, event):
                name, text = entry.name, entry.text
                if not events or (names and name not in names):
                    continue
                if time_us is None:
                    untimed += 1
                about = device(name, text) if name[0] == "v" else ""
                append(Moment(at, side, traced, name, text[:LONGEST_TEXT], about))
                continue
            if messages:
                append(Moment(at, side, Witness.MESSAGE, entry.text[:LONGEST_TEXT]))
            if entry.complete:
                foreign += 1
                first = first or entry.line
            else:
                tell("cut", f"{path.name}: its last line is cut off")
        yield moments
    if untimed:
        tell("untimed", f"{path.name}: {untimed} events without a time stand with the line before")
    if foreign and not names:
        many = f"{foreign} lines are no trace events" if foreign > 1 else "one line is no event"
        tell("foreign", f"{path.name}: {many} but messages, the first is line {first}")


def messages(path: Path, side: str, began_us: int) -> Iterator[list[Moment]]:
    """What QEMU printed: a line without a time has that of the line before."""
    at = began_us
    for entries in parser.read_batches(path):
        moments = []
        for entry in entries:
            at = at if entry.time_us is None else entry.time_us
            moments.append(Moment(at, side, Witness.MESSAGE, str(entry)[:LONGEST_TEXT]))
        yield moments


def calls(path: Path, side: str, names: Collection[str], tell: Tell) -> Iterator[list[Moment]]:
    """The call log of emulated devices.

    A call that was repeated is written when something else came or at the end, however late that
    is: so these are looked for first.
    """
    log = Reader(path)
    repeated = [_call(e, side) for e in log if isinstance(e, Call) and e.until is not None]
    others = (_call(e, side) for e in log if not isinstance(e, Call) or e.until is None)
    yield from _lists(heapq.merge(sorted(repeated, key=ended), others, key=ended), names)
    _problems(log, tell)


def _call(entry: Call | Note, side: str) -> Moment:
    us = None
    if isinstance(entry, Call):
        # When each of several calls began is not known.
        us = entry.us if entry.until is None or entry.times > 1 else entry.until - entry.at
    return Moment(entry.at, side, Witness.CALLS, entry.name, entry.text, entry.device, us)


class _Line(msgspec.Struct):
    """One of a QMP transcript; see `qmp.transcript`."""

    time: Instant
    sent: dict[str, Any] = {}
    received: dict[str, Any] = {}
    count: Count = 0
    last: Instant | None = None


def qmp(
    path: Path, side: str, names: Collection[str], devices: Collection[str], tell: Tell
) -> Iterator[list[Moment]]:
    """The QMP transcript: events at QEMU's own time, commands and answers when they were seen.

    An answer has its command's name, and a text that begins with `->`. `devices`: ids to look for
    in an event's data.
    """
    asked: dict[str, str] = {}
    log = JsonLog(path, _json(_Line), "QMP transcript's")
    yield from _lists((_message(line, side, devices, asked) for line in log), names)
    _problems(log, tell)


def _message(line: _Line, side: str, devices: Collection[str], asked: dict[str, str]) -> Moment:
    at = round(line.time * 1e6)
    us = None if line.last is None else round(line.last * 1e6) - at
    device = ""
    if line.sent:
        name = str(line.sent.get("execute") or line.sent.get("exec-oob") or "?")
        asked[_compact(line.sent.get("id"))] = name
        text = _words(line.sent.get("arguments", {}))
        return Moment(at, side, Witness.QMP, name, text)
    got = line.received
    if "event" in got:
        name, data = str(got["event"]), got.get("data", {})
        text = _words(data)
        if line.count:
            text = f"{text} ({line.count} more)".lstrip()
        else:
            at = _stamp(got.get("timestamp")) or at
        if isinstance(data, dict):
            about = (data.get("device-id"), data.get("device"))
            device = next((d for d in about if isinstance(d, str) and d in devices), "")
    elif "QMP" in got:
        name, text = "QMP", _words(got["QMP"])
    else:
        name = asked.pop(_compact(got.get("id")), "?")
        error = got.get("error")
        if isinstance(error, dict):
            text = f"-> {error.get('class')}: {error.get('desc')}"
        else:
            text = f"-> {_words(got.get('return', {})) or 'done'}"
        text = _cut(text)
    return Moment(at, side, Witness.QMP, name, " ".join(text.split()), device, us)


def _stamp(timestamp: object) -> int | None:
    """QEMU's own time of an event; it says -1 if it has none."""
    if isinstance(timestamp, dict):
        seconds, us = timestamp.get("seconds"), timestamp.get("microseconds")
        if isinstance(seconds, int) and isinstance(us, int) and seconds >= 0:
            return seconds * 1_000_000 + us
    return None


def _words(value: object) -> str:
    if isinstance(value, dict):
        plain = {k: v if isinstance(v, str) else _compact(v) for k, v in value.items()}
        return " ".join(pairs(plain))
    return _compact(value)


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


class _Said(msgspec.Struct):
    """A line of what the guest's console said."""

    at: Microseconds
    reported: Count | None = None
    pages: Count | None = None
    started: str | None = None
    rebooted: str | None = None
    noise: str | None = None


def guest(path: Path, side: str, names: Collection[str], tell: Tell) -> Iterator[list[Moment]]:
    """What the guest said on its serial port, at the time at which that was read."""
    log = JsonLog(path, _json(_Said), "guest log's")
    yield from _lists((_said(line, side) for line in log), names)
    _problems(log, tell)


def _said(line: _Said, side: str) -> Moment:
    if line.reported is not None:
        pages = "" if line.pages is None else f" pages={line.pages}"
        return Moment(line.at, side, Witness.GUEST, "reported", f"counter={line.reported}{pages}")
    for name in ("started", "rebooted", "noise"):
        text = getattr(line, name)
        if text is not None:
            return Moment(line.at, side, Witness.GUEST, name, text)
    return Moment(line.at, side, Witness.GUEST, "?")


def _json(kind: type[T]) -> Callable[[bytes], T | None]:
    decoder = msgspec.json.Decoder(kind)

    def entry(line: bytes) -> T | None:
        try:
            return decoder.decode(line)
        except (ValueError, RecursionError):
            return None

    return entry


def _lists(moments: Iterable[Moment], names: Collection[str]) -> Iterator[list[Moment]]:
    """Those of these names, if any are given."""
    iterator = (_bounded(moment) for moment in moments if not names or moment.name in names)
    while some := list(islice(iterator, _BATCH)):
        yield some


def _bounded(moment: Moment) -> Moment:
    if len(moment.name) + len(moment.text) <= LONGEST_TEXT:
        return moment
    name, text = moment.name[:LONGEST], moment.text[:LONGEST_TEXT]
    return msgspec.structs.replace(moment, name=name, text=text)


def _problems(log: JsonLog[Any], tell: Tell) -> None:
    for problem in log.problems:
        tell(problem, problem)
