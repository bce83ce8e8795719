"""The QMP transcript of one VM: every message as it was seen, one JSON object a line.

Each line has `time` (seconds since the epoch, at receipt or sending) and `sent` or `received`. A
run of a flooding event is one line with `count`, the `last` time, and the last event.
"""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from qmptests.errors import EnvironmentFailure
from qmptests.kept import Kept
from qmptests.qmp.runs import Run, RunLength
from qmptests.redaction import Redaction


class Transcript:
    """Appends to `path`; unbuffered, so that a killed process loses nothing.

    A write that fails (a full disk) must not stop the migration: `problem` says what was lost, and
    so does the file. Raises EnvironmentFailure if `path` can't be created.
    Secrets, which the commands that are sent add to `redaction`, are left out.
    """

    def __init__(self, path: Path, redaction: Redaction | None = None) -> None:
        self.path = path
        self._redaction = redaction if redaction is not None else Redaction()
        self._runs = RunLength()
        self._flood: Run | None = None
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {path}: {error.strerror}") from error
        self._file: Kept | None = Kept(fd)
        self.problem = ""

    def sent(self, message: dict[str, Any]) -> None:
        """Note a message of ours."""
        self._end_of_run()
        self._write({"time": _now(), "sent": self._redaction.message(message)})

    def received(self, message: dict[str, Any]) -> None:
        """Note a message of QEMU's; one that lengthens a flood is written when that ends."""
        now = _now()
        if self._redaction:
            message = self._redaction.message(message)
        name = message.get("event")
        if not isinstance(name, str):
            self._end_of_run()
            self._write({"time": now, "received": message})
            return
        run, is_new = self._runs.add(name, message, now)
        if is_new:
            self._write_flood()
            self._write({"time": now, "received": message})
        else:
            self._flood = run

    def close(self) -> None:
        """Write what is left of a flood, and close; a second call does nothing."""
        if self._file is not None:
            self._write_flood()
            self._file.close()
            self.problem = self._file.problem
            self._file = None

    def _end_of_run(self) -> None:
        self._write_flood()
        self._runs.interrupt()

    def _write_flood(self) -> None:
        run, self._flood = self._flood, None
        if run is not None:
            # The run's first event has its own line already.
            self._write(
                {
                    "time": run.first,
                    "last": run.last,
                    "count": run.count - 1,
                    "received": run.data,
                }
            )

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.append(msgspec.json.encode(record) + b"\n")
            self.problem = self._file.problem


def _now() -> float:
    return round(time.time(), 6)
