"""Run-length storage of floods, as data.

QEMU 11.1 can send thousands of MIGRATION_PASS events a second. The first `KEEP` of a run of
events of one name are kept as they came; the rest of the run becomes one entry with the count, the
first and the last time, and the last content.
"""

from typing import Any

import msgspec

#: How many consecutive events of one name are kept one by one.
KEEP = 16


class Run(msgspec.Struct):
    """One or more consecutive events of one name. Times are seconds since the epoch.

    In an `EventLog` they are QEMU's own time stamps, in a transcript those of the receipt. `data`
    is that of the last one; `last_number` counts all events of the connection from 0.
    """

    name: str
    data: dict[str, Any]
    first: float
    last: float
    last_number: int
    count: int = 1


class RunLength:
    """Decides for each event whether it starts an entry or lengthens the last one."""

    def __init__(self) -> None:
        self._open: Run | None = None
        self._in_a_row = 0
        self._number = 0

    def add(self, name: str, data: dict[str, Any], time: float) -> tuple[Run, bool]:
        """The entry that this event belongs to, and whether it is a new one."""
        number, self._number = self._number, self._number + 1
        run = self._open
        if run is not None and run.name == name:
            self._in_a_row += 1
            if self._in_a_row > KEEP + 1:
                run.count += 1
                run.data, run.last, run.last_number = data, time, number
                return run, False
        else:
            self._in_a_row = 1
        self._open = Run(name, data, time, time, number)
        return self._open, True

    def interrupt(self) -> None:
        """Something else was said in between: the next event starts an entry of its own."""
        if self._open is not None and self._open.count > 1:
            self._open = None
