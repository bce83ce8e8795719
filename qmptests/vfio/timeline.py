"""What the emulated devices were asked, beside what QEMU says that it does: one time line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qmptests.errors import InputError
from qmptests.trace import parser
from qmptests.vfio import descriptors
from qmptests.vfio.calls_read import Call, CallLog, Note

CALLS = ".vfio.jsonl"
TRACE = ".trace.log"
#: Who said it, if it was no device.
QEMU = "qemu"
_PREFIX = "vfio_"


class Moment(msgspec.Struct, frozen=True):
    """One line of it: when, in microseconds since the epoch, on which side, who, and what.

    `device` is whom it is about: the device of a call, or the one whose label an event has.
    """

    at_us: int
    side: str
    who: str
    device: str
    what: str


class Timeline(msgspec.Struct, frozen=True):
    """The moments in order; `problems` are those of the logs, in words."""

    moments: list[Moment]
    problems: list[str]


def read(folder: Path, side: str = "", device: str = "") -> Timeline:
    """The time line of an outcome folder: of one side or one device if that is named.

    Raises InputError if there is no such folder, side or device, or no call log.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no outcome folder")
    sides = sorted(path.name.removesuffix(CALLS) for path in folder.glob(f"*{CALLS}"))
    if not sides:
        raise InputError(f"{folder} has no call log (SIDE{CALLS}): there were no emulated devices")
    if side and side not in sides:
        raise InputError(f"{folder} has no call log of '{side}': there are {', '.join(sides)}")
    moments: list[Moment] = []
    problems: list[str] = []
    names: set[str] = set()
    for one in [side] if side else sides:
        log = CallLog(folder / f"{one}{CALLS}")
        problems += log.problems
        names |= set(log.header.names)
        moments += (_moment(entry, one) for entry in log.entries)
        trace = folder / f"{one}{TRACE}"
        if trace.exists():
            moments += _events(trace, one, log.header.names)
        else:
            problems.append(f"{trace.name} is not there: what QEMU said is missing")
    if device and device not in names:
        raise InputError(f"there is no device '{device}': {', '.join(sorted(names))}")
    chosen = [m for m in moments if device in ("", m.device)]
    return Timeline(sorted(chosen, key=lambda moment: moment.at_us), problems)


def _moment(entry: Call | Note, side: str) -> Moment:
    who = entry.device or "-"
    return Moment(entry.at, side, who, entry.device, words(entry))


def _events(path: Path, side: str, names: Sequence[str]) -> Iterator[Moment]:
    """QEMU's VFIO events. Up to 10.0 it calls a device by its descriptor: VFIO_FD201 is ours."""
    labels = {f"VFIO_FD{descriptors.device(n)}": name for n, name in enumerate(names)}
    for entry in parser.read(path):
        if (
            isinstance(entry, parser.Event)
            and entry.name.startswith(_PREFIX)
            and entry.time_us is not None
        ):
            label = entry.label or ""
            yield Moment(entry.time_us, side, QEMU, labels.get(label, label), _one_line(entry))


def _one_line(event: parser.Event) -> str:
    return " ".join([event.name, *event.text.split()])


def words(entry: Call | Note) -> str:
    """An entry of a call log as a person reads it."""
    if isinstance(entry, Note):
        return " ".join([entry.note, *_pairs(entry.more, bare=("words", "call"))])
    parts = [entry.call, *_pairs(entry.with_)]
    if entry.answer:
        parts += ["->", *_pairs(entry.answer, bare=("errno",))]
    if entry.times > 1:
        parts.append(f"({entry.times} times")
        parts.append(f"in {((entry.until or entry.at) - entry.at) / 1e3:.3f} ms)")
    elif entry.us is not None:
        parts.append(f"({entry.us} us)")
    return " ".join(parts)


def _pairs(fields: dict[str, Any], bare: Sequence[str] = ()) -> list[str]:
    """`key=value` for each, the `bare` ones first and without their key."""
    first = [str(fields[key]) for key in bare if key in fields]
    return first + [f"{key}={value}" for key, value in fields.items() if key not in bare]
