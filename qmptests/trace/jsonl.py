"""Logs of one JSON value a line, read in bounded memory: what can't be read is told, not raised."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from qmptests import files, kept
from qmptests.errors import InputError

#: A longer line is no line of ours.
MAX_LINE = 16 << 20

T = TypeVar("T")


class JsonLog(Generic[T]):
    """A finished or a growing log.

    `entry` makes something of a line, None if it is somebody else's. `what`: whose a line should
    be, "call log's". `skip`: lines at the start that are not read. `problems` is complete after
    iteration: a last line that was cut off, lines that were lost or are somebody else's.
    """

    def __init__(
        self, path: Path, entry: Callable[[bytes], T | None], what: str, skip: int = 0
    ) -> None:
        self.path = path
        self.problems: list[str] = []
        self._entry = entry
        self._what = what
        self._skip = skip

    def __iter__(self) -> Iterator[T]:
        """The entries in the log's order. Raises InputError if the file can't be read."""
        foreign: list[int] = []
        lost: list[_Lost] = []
        count = 0
        rest = b""
        try:
            with io.BufferedReader(files.open_log(self.path)) as file:
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                    if number <= self._skip:
                        continue
                    if not line.endswith(b"\n"):
                        rest = line
                        break
                    if line.startswith(kept.MARK) and (gap := _gap(line)) is not None:
                        lost.append(gap)
                        continue
                    entry = self._entry(line)
                    if entry is not None:
                        yield entry
                        continue
                    count += 1
                    foreign = foreign or [number]
        except OSError as error:
            raise InputError(f"can't read {self.path}: {error.strerror}") from error
        self.problems = []
        if lost:
            words = kept.words(sum(gap.lost for gap in lost), lost[0].why)
            self.problems.append(f"{self.path.name}: {words}")
        if count:
            many = f"{count} lines are" if count > 1 else "one line is"
            self.problems.append(
                f"{self.path.name}: {many} no {self._what} and left out, "
                f"the first is line {foreign[0]}"
            )
        if rest:
            self.problems.append(f"{self.path.name}: its last line is cut off and left out")


class _Lost(msgspec.Struct):
    """A line that stands for lost ones."""

    lost: files.Count
    why: str


def _gap(line: bytes) -> _Lost | None:
    try:
        return msgspec.json.decode(line, type=_Lost)
    except (ValueError, RecursionError):
        return None
