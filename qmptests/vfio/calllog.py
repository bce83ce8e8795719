"""The call log: one JSON object a line, for each call that was notified.

    {"at": 1732000000123456, "device": "vf0", "call": "set-state", "with": {"state": "stop-copy"},
     "answer": {}, "us": 87}

`at` and `us` are microseconds, of the same clock as QEMU's trace log and of the call's service; a
change of state has `cpu_us` besides, the processor time that the emulation has taken until then.
`answer` has `errno` by name if the call failed. Calls that QEMU repeats thousands of times a second
while it waits become one line when nothing changed: `times` such calls between `at` and `until`.
The first line tells whose log it is: `format`, the devices, both clocks; the last one, a note
"ended", that it is whole. Lines that a full disk swallowed are one with `lost`: how many, and why.
"""

import errno
import json
import time
from typing import Any

from qmptests.kept import Kept
from qmptests.vfio.calls import Answer, Call, Detail

#: A device, a call's name, its detail.
Key = tuple[str, str, Detail]

FORMAT = 1
#: Asked again and again by QEMU without anything having happened.
_REPEATED = frozenset({"data-size", "precopy-info", "read", "dma-report", "dirty-bitmap"})
_encode = json.JSONEncoder(separators=(",", ":")).encode
#: Bytes that may wait to be written.
_WAITING = 1 << 16


class CallLog:
    """Writes to `file`, which it closes; None for a log that nobody wants."""

    def __init__(self, file: Kept | None, header: dict[str, Any]) -> None:
        self._file = file
        self._lines: list[str] = []
        self._size = 0
        #: Its answer, how often again, when first and last.
        self._same: dict[Key, list[Any]] = {}
        self.counts: dict[str, dict[str, int]] = {}
        self._write(
            {
                "format": FORMAT,
                "wall_us": time.time_ns() // 1000,
                "monotonic_us": time.monotonic_ns() // 1000,
                **header,
            }
        )

    def call(self, device: str, call: Call, answer: Answer, began_ns: int) -> None:
        """One call that has been answered; `began_ns` on the wall clock."""
        counts = self.counts.setdefault(device, {})
        counts[call.name] = counts.get(call.name, 0) + 1
        if self._file is None:
            return
        now = time.time_ns()
        said = (answer.errno, answer.detail)
        if call.name in _REPEATED and answer.span is None:
            key: Key = (device, call.name, call.detail)
            same = self._same.get(key)
            if same is not None and same[0] == said:
                same[1] += 1
                same[2] = same[2] or began_ns
                same[3] = now
                return
            if same is not None:
                self._tell(key, same)
            self._same[key] = [said, 0, 0, 0]
        more = {"us": (now - began_ns) // 1000}
        if call.name == "set-state":
            more["cpu_us"] = time.process_time_ns() // 1000
        self._line(device, call.name, call.detail, said, began_ns, more)

    def note(self, device: str, what: str, **more: Any) -> None:
        """Something that happened without a call."""
        self._write({"at": time.time_ns() // 1000, "device": device, "note": what, **more})

    def _line(
        self,
        device: str,
        name: str,
        detail: Detail,
        said: tuple[int, Detail],
        began_ns: int,
        more: dict[str, int],
    ) -> None:
        answer = dict(said[1])
        if said[0]:
            answer["errno"] = errno.errorcode.get(said[0], str(said[0]))
        self._write(
            {
                "at": began_ns // 1000,
                "device": device,
                "call": name,
                "with": dict(detail),
                "answer": answer,
                **more,
            }
        )

    def _tell(self, key: Key, same: list[Any]) -> None:
        """Of the repetitions so far, if there were any."""
        device, name, detail = key
        said, times, first, last = same
        if times:
            self._line(device, name, detail, said, first, {"times": times, "until": last // 1000})
            same[1] = same[2] = 0

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            line = _encode(entry) + "\n"
            self._lines.append(line)
            self._size += len(line)
            if self._size > _WAITING:
                self.flush()

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._lines)

    def flush(self) -> None:
        """Hand what waits to the kernel; a full disk costs lines, never the run."""
        if self._lines and self._file is not None:
            lines, self._lines, self._size = self._lines, [], 0
            self._file.append("".join(lines).encode(errors="backslashreplace"))

    @property
    def lost(self) -> str:
        """What is missing in it, in words; "" for nothing."""
        return self._file.problem if self._file is not None else ""

    def close(self, status: int | None = None) -> None:
        """Write the rest; with the command's `status` the end, which says that the log is whole."""
        for key, same in self._same.items():
            self._tell(key, same)
        if status is not None:
            self.note("", "ended", status=status)
        self.flush()
        if self._file is not None:
            self._file.close()
