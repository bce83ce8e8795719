"""A file of lines that says which of them it could not take. Standard library only.

A full disk must stop no migration, and what it swallowed must not look as if it had never been: a
lost line is counted, and once the disk takes something again, the file says how many are missing.
So it is with what somebody else takes away while the file is written.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable

#: How a line begins that stands for lost ones.
MARK = b'{"lost":'


def json_gap(lines: int, why: str) -> bytes:
    """What stands for lost lines in a file of JSON objects."""
    return MARK + json.dumps(lines).encode() + b',"why":' + json.dumps(why).encode() + b"}\n"


def words(lines: int, why: str) -> str:
    """`lost 3 lines: No space left on device`."""
    return f"lost {lines} line{'s' * (lines != 1)}: {why}"


class Kept:
    """A file that only grows. Unbuffered, so that a killed process loses nothing.

    `opens`: its descriptor, which is closed with it, or what opens it when there is something to
    write, and raises OSError where that can't be. `gap`: the line that stands for lost ones.
    `lost`: how many lines are missing, `why`: the first reason.
    """

    def __init__(
        self, opens: Callable[[], int] | int, gap: Callable[[int, str], bytes] = json_gap
    ) -> None:
        self.lost = 0
        self.why = ""
        self._opens = opens
        self._gap = gap
        self._fd = opens if isinstance(opens, int) else -1
        #: How much of the file is ours, and whether it had a name.
        self._size = 0
        self._named = self._fd >= 0 and os.fstat(self._fd).st_nlink > 0
        self._taken = ""
        #: Lost lines that the file does not tell of yet.
        self._untold = 0

    @property
    def problem(self) -> str:
        """What is missing, in words; "" for nothing."""
        self._look()
        return "; ".join(filter(None, [words(self.lost, self.why) * bool(self.lost), self._taken]))

    def append(self, data: bytes) -> None:
        """Write lines behind those that are there: only whole ones stay where not all fit."""
        gap = self._gap(self._untold, self.why) if self._untold else b""
        whole = gap + data
        written, why = self._write(whole)
        if written == len(whole):
            self._untold = 0
            return
        stays = whole.rfind(b"\n", 0, written) + 1
        self._drop(written - stays)
        lost = whole[max(stays, len(gap)) :].count(b"\n") or bool(data)
        self.why = self.why or why
        self.lost += lost
        self._untold = lost if stays >= len(gap) else self._untold + lost

    def close(self) -> None:
        """Tell of what is missing if that is possible now; a second call does nothing."""
        if self._untold and self._fd >= 0:
            self.append(b"")
        self._look()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        """Whether the file still has its name and all that we wrote."""
        if self._fd < 0:
            return
        now = os.fstat(self._fd)
        if self._named and now.st_nlink == 0:
            self._taken = "was removed while it was written"
        elif stat.S_ISREG(now.st_mode) and now.st_size < self._size:
            self._taken = "was cut while it was written"

    def _write(self, data: bytes) -> tuple[int, str]:
        """How much of it was written, and why not all."""
        written = 0
        try:
            if self._fd < 0:
                if isinstance(self._opens, int):
                    raise OSError(errno.EBADF, "closed")
                self._fd = self._opens()
                self._named = os.fstat(self._fd).st_nlink > 0
            while written < len(data):
                wrote = os.write(self._fd, data[written:])
                written, self._size = written + wrote, self._size + wrote
        except OSError as error:
            return written, error.strerror or type(error).__name__
        return written, ""

    def _drop(self, size: int) -> None:
        """The beginning of a line whose end does not fit."""
        if size:
            self._size -= size
            with contextlib.suppress(OSError):  # not a file that can be cut
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - size)
