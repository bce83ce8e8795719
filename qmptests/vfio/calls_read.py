"""Call logs of emulated devices, read back: `calllog` says what is in them."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qmptests import files
from qmptests.errors import InputError
from qmptests.files import Count, Microseconds
from qmptests.trace.jsonl import MAX_LINE, JsonLog
from qmptests.vfio.calllog import FORMAT

#: Bytes; the note at a log's end takes fewer.
MAX_END = 4096


class Header(msgspec.Struct, frozen=True):
    """A log's first line: whose it is."""

    format: int
    argv: list[str] = []
    devices: list[dict[str, Any]] = []

    @property
    def names(self) -> list[str]:
        """The devices' names, in the order of their descriptors."""
        return [str(device.get("name", "?")) for device in self.devices]


class Call(msgspec.Struct, frozen=True):
    """One call that was answered, or several that were alike.

    `at`: microseconds since the epoch; `us`: how long its answer took; `times` calls between `at`
    and `until` if there is that. `answer` has `errno` if it failed. `cpu_us`: microseconds of
    processor time that the emulation had taken when it answered; of changes of state only.
    """

    at: Microseconds
    device: str
    call: str
    with_: dict[str, Any] = msgspec.field(default_factory=dict, name="with")
    answer: dict[str, Any] = {}
    us: Count | None = None
    cpu_us: Count | None = None
    times: Count = 1
    until: Microseconds | None = None

    @property
    def name(self) -> str:
        """What was called."""
        return self.call

    @property
    def text(self) -> str:
        """All the rest as a person reads it."""
        parts = pairs(self.with_)
        if self.answer:
            parts += ["->", *pairs(self.answer, bare=("errno",))]
        if self.times > 1:
            parts.append(f"({self.times} times")
            parts.append(f"in {((self.until or self.at) - self.at) / 1e3:.3f} ms)")
        elif self.us is not None:
            parts.append(f"({self.us} us)")
        return " ".join(parts)


class Note(msgspec.Struct, frozen=True):
    """Something that happened without a call, such as "held", or a rule that fired."""

    at: Microseconds
    device: str
    note: str
    more: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What happened."""
        return self.note

    @property
    def text(self) -> str:
        """All the rest as a person reads it."""
        return " ".join(pairs(self.more, bare=("words", "call")))


def pairs(fields: Mapping[str, Any], bare: Sequence[str] = ()) -> list[str]:
    """`key=value` for each, the `bare` ones first and without their key."""
    first = [str(fields[key]) for key in bare if key in fields]
    return first + [f"{key}={value}" for key, value in fields.items() if key not in bare]


class Reader(JsonLog[Call | Note]):
    """A log that is read entry by entry, in bounded memory, as often as one likes.

    Raises InputError if it can't be read, or is another's format.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _entry, "call log's", skip=1)
        self.header = header(path)


class CallLog:
    """A finished or a growing log with all its entries; raises as `Reader` does.

    `problems`: what is not as it should be, in words: a last line that was cut off, lines that are
    somebody else's. All others are there.
    """

    def __init__(self, path: Path) -> None:
        log = Reader(path)
        self.path = path
        self.header = log.header
        self.entries = list(log)
        self.problems = log.problems

    def calls(self, name: str = "", device: str = "") -> Iterator[Call]:
        """The calls of this name and device; "" for any."""
        for entry in self.entries:
            if (
                isinstance(entry, Call)
                and name in ("", entry.call)
                and device in ("", entry.device)
            ):
                yield entry


def is_whole(path: Path) -> bool:
    """Whether the log has its end; False also for one that still grows. Raises OSError."""
    with io.BufferedReader(files.open_log(path)) as file:
        file.seek(max(0, path.stat().st_size - MAX_END))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    entry = _entry(last)
    return isinstance(entry, Note) and entry.note == "ended"


def header(path: Path) -> Header:
    """A log's first line; raises InputError if that is not one."""
    try:
        with io.BufferedReader(files.open_log(path)) as file:
            line = file.readline(MAX_LINE)
    except OSError as error:
        raise InputError(f"can't read the call log {path}: {error.strerror}") from error
    try:
        found: Header = files.decode(line, Header)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no call log of emulated devices: {error}") from error
    if found.format != FORMAT:
        raise InputError(
            f"{path} has format {found.format}, this qmptests reads {FORMAT}: "
            "use the version that wrote it"
        )
    return found


def _entry(line: bytes) -> Call | Note | None:
    try:
        fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        if "call" in fields and "note" not in fields:
            return msgspec.convert(fields, Call)
        more = {k: v for k, v in fields.items() if k not in ("at", "device", "note")}
        return msgspec.convert({**fields, "more": more}, Note)
    except (ValueError, RecursionError):
        return None
