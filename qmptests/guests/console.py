"""Reads what the dirtier says on its serial port.

A line when it has filled its memory and goes to work, and one at each report interval:

    dirtier v1 start=00100000 length=01000000 seed=00000000
    c=0000002a p=00000d38

`c` counts the reports, `p` the pages written since the first fill; both are 32 bits, hexadecimal.
"""

import re

from qmptests.guests.protocol import Noise, Observation, Rebooted, Reported, Started

_BANNER = re.compile(rb"dirtier v1 start=[0-9a-f]{8} length=[0-9a-f]{8} seed=[0-9a-f]{8}")
_REPORT = re.compile(rb"c=([0-9a-f]{8}) p=([0-9a-f]{8})")
_LONGEST_LINE = 200  # bytes; ours have 55 at most, so memory stays bounded whatever comes


class DirtierConsole:
    """The console of one QEMU process with a dirtier in it.

    `resumed`: the guest goes on here after a migration, so it must not start, and what comes
    first may be the rest of a line whose beginning went to the source.
    """

    def __init__(self, *, resumed: bool = False) -> None:
        self._partial = b""
        self._skipping = False
        self._rest_of_a_line = resumed
        self._started = resumed
        self._counter: int | None = None

    @property
    def ready(self) -> bool:
        """Whether the memory is filled."""
        return self._started

    @property
    def alive(self) -> bool:
        """Whether a report has come since the start, or since the last reboot."""
        return self._counter is not None

    @property
    def counter(self) -> int | None:
        """The guest's count of reports; goes on at the destination where the source stopped."""
        return self._counter

    def feed(self, data: bytes) -> list[Observation]:
        """Take the next bytes and return what their complete lines say."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        seen: list[Observation] = []
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif (observation := self._read(line)) is not None:
                seen.append(observation)
            self._rest_of_a_line = False
        if len(self._partial) > _LONGEST_LINE:
            if not self._skipping:
                seen.append(_noise(self._partial))
            self._partial = b""
            self._skipping = True
        return seen

    def _read(self, line: bytes) -> Observation | None:
        line = line.removesuffix(b"\r")
        if match := _REPORT.fullmatch(line):
            self._started = True
            self._counter = int(match[1], 16)
            return Reported(self._counter, int(match[2], 16))
        if _BANNER.fullmatch(line):
            again, self._started, self._counter = self._started, True, None
            return Rebooted(line.decode()) if again else Started(line.decode())
        if not line or self._rest_of_a_line:
            return None
        return _noise(line)


def _noise(line: bytes) -> Noise:
    return Noise(line[:_LONGEST_LINE].decode("ascii", "backslashreplace"))
