"""What was observed at one instant of a migration, whoever observed it."""

from enum import StrEnum
from typing import Any

import msgspec

from qmptests.trace import formats


class Witness(StrEnum):
    """Who observed a moment, and by which clock.

    All four are the wall clock of the host on which it happened, in microseconds: QEMU stamps its
    trace events and QMP events by gettimeofday, the emulation its calls by `time.time_ns`. What
    the guest says is stamped when it is read from the serial port.
    """

    QMP = "qmp"
    TRACE = "trace"
    #: The call log of emulated VFIO devices.
    CALLS = "calls"
    GUEST = "guest"
    #: A line of QEMU's that is no trace event, such as an error.
    MESSAGE = "message"


class Moment(msgspec.Struct, frozen=True, gc=False):
    """One line of the time line.

    `at_us`: microseconds since the epoch, on the clock of `side`'s host; `us`: how long it lasted
    from then on, if that is known. `name`: of the event or the call; `text`: all else that was
    said, on one line. `device`: the device's name (`vf0`) if it is about one. `side`: source,
    destination, destination-2 after a retry.
    """

    at_us: int
    side: str
    witness: Witness
    name: str
    text: str = ""
    device: str = ""
    us: int | None = None

    @property
    def args(self) -> dict[str, Any]:
        """Of a trace event: its arguments by name; see `trace.formats.arguments`."""
        return formats.arguments(self.name, self.text)

    def number(self, name: str) -> int:
        """That argument of it; 0 if it has none that is a whole number."""
        found = self.args.get(name)
        return found if isinstance(found, int) else 0

    def __str__(self) -> str:
        return f"{self.name} {self.text}".rstrip()
