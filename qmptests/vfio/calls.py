"""What QEMU asks of a device, in words: a system call becomes a `Call`, which is answered.

Names are those of the call log, of scripts and of the documentation. Pure: memory is read through
`Memory`, so that a test can be QEMU.
"""

from enum import IntEnum
from typing import Any, NamedTuple, Protocol

#: Names and values, in the order in which a log shows them.
Detail = tuple[tuple[str, int | str], ...]


class Memory(Protocol):
    """The caller's memory. Both raise OSError (EFAULT) for what is not mapped there."""

    def read(self, address: int, length: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class Call(NamedTuple):
    """One call: its name, where its argument lies, the argument unpacked, and what a log shows.

    `argument` is the record of `abi` that belongs to `name`, for a feature the feature's own;
    `payload` the address of that record; `size` what the caller says its structure has (argsz or
    size); `flags` a feature's GET, SET and PROBE; `detail` what tells one call from another of its
    name, as pairs.
    """

    name: str
    address: int = 0
    argument: Any = None
    payload: int = 0
    size: int = 0
    flags: int = 0
    detail: Detail = ()


class Kind(IntEnum):
    """What a piece of a device's data stream is."""

    INITIAL = 1
    DIRTY = 2
    STOP_COPY = 3
    END = 4


class Span(NamedTuple):
    """A piece of a device's data stream: `length` bytes from position `start`, all of one kind.

    `generation`: 0, and one more with each REINIT.
    """

    start: int
    length: int
    kind: Kind
    generation: int


class EventFds(NamedTuple):
    """Event descriptors of QEMU's that an interrupt is to use from vector `start` on.

    -1 takes a vector's away; no numbers at all take those of all vectors away. `unmask`: they are
    not to be written but to be listened to: QEMU unmasks by them.
    """

    irq: int
    start: int
    numbers: tuple[int, ...]
    unmask: bool = False


class Answer(NamedTuple):
    """What a call is answered: `errno` (positive), or `value`, which is 0 for a plain success.

    `opens`: a data descriptor that QEMU is to get ("saving" or "resuming"); its number belongs at
    address `opens_at`. `span`: what a read delivers (`value` is its length). `delay_s`: how long
    the answer takes. `detail`: what the log shows of it, as pairs.
    """

    errno: int = 0
    value: int = 0
    opens: str = ""
    opens_at: int = 0
    span: Span | None = None
    event_fds: EventFds | None = None
    delay_s: float = 0.0
    detail: Detail = ()


class Unknown(Exception):
    """A call that no device of ours knows; its text names it."""
