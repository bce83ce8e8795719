"""Call logs of emulated devices, read back: `calllog` says what is in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from qmptests.errors import InputError
from qmptests.vfio.calllog import FORMAT


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

    at: int
    device: str
    call: str
    with_: dict[str, Any] = msgspec.field(default_factory=dict, name="with")
    answer: dict[str, Any] = {}
    us: int | None = None
    cpu_us: int | None = None
    times: int = 1
    until: int | None = None


class Note(msgspec.Struct, frozen=True):
    """Something that happened without a call, such as "held", or a rule that fired."""

    at: int
    device: str
    note: str
    more: dict[str, Any] = {}


class CallLog:
    """A finished or a growing log. Raises InputError if it can't be read, or is another's format.

    `problems`: what is not as it should be, in words: a last line that was cut off, lines that are
    somebody else's. All others are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Call | Note] = []
        self.problems: list[str] = []
        try:
            head, *lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise InputError(f"can't read the call log {path}: {error.strerror}") from error
        self.header = _header(head, path)
        *whole, rest = lines or [b""]
        foreign = []
        for number, line in enumerate(whole, 2):
            entry = _entry(line)
            if entry is None:
                foreign.append(number)
            else:
                self.entries.append(entry)
        if foreign:
            many = f"{len(foreign)} lines are" if len(foreign) > 1 else "one line is"
            self.problems.append(
                f"{path.name}: {many} no call log's and left out, the first is line {foreign[0]}"
            )
        if rest:
            self.problems.append(f"{path.name}: its last line is cut off and left out")

    def calls(self, name: str = "", device: str = "") -> Iterator[Call]:
        """The calls of this name and device; "" for any."""
        for entry in self.entries:
            if (
                isinstance(entry, Call)
                and name in ("", entry.call)
                and device in ("", entry.device)
            ):
                yield entry


def _header(line: bytes, path: Path) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no call log of emulated devices: {error}") from error
    if header.format != FORMAT:
        raise InputError(
            f"{path} has format {header.format}, this qmptests reads {FORMAT}: "
            "use the version that wrote it"
        )
    return header


def _entry(line: bytes) -> Call | Note | None:
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        if "call" in fields and "note" not in fields:
            return msgspec.convert(fields, Call)
        more = {k: v for k, v in fields.items() if k not in ("at", "device", "note")}
        return msgspec.convert({**fields, "more": more}, Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
