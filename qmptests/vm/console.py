"""The guest's serial port: kept in files, and read by the guest's own reader."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from qmptests import guests
from qmptests.kept import Kept


class Console:
    """Drains `sock` on the event loop into `log` and into `guest`, which makes sense of it.

    What that is goes to `times`, one JSON object a line: `at`, when it was read in microseconds
    since the epoch, and what the guest said.
    """

    def __init__(self, sock: socket.socket, log: Path, times: Path, guest: guests.Console) -> None:
        self.guest = guest
        self.reports = 0
        self.reboots = 0
        self._sock = sock
        self._changed = asyncio.Event()
        self._log = Kept(_opening(log), _gap)
        self._times = Kept(_opening(times))
        self._files = {log: self._log, times: self._times}
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._on_readable)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once `condition` holds; looked at again after each piece of output."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            return
        at = time.time_ns() // 1000
        self._log.append(data)
        seen = self.guest.feed(data)
        if seen:
            self._times.append(b"".join(_line(at, observation) for observation in seen))
        for observation in seen:
            self.reports += isinstance(observation, guests.Reported)
            self.reboots += isinstance(observation, guests.Rebooted)
        self._changed.set()

    @property
    def problems(self) -> dict[Path, str]:
        """Files that lost something, and what, in words."""
        return {path: file.problem for path, file in self._files.items() if file.problem}

    def close(self) -> None:
        """Take what is still there, and close."""
        if self._sock.fileno() >= 0:
            self._on_readable()
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
        self._log.close()
        self._times.close()


def _opening(path: Path) -> Callable[[], int]:
    """Opens it once there is something to keep."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return lambda: os.open(path, flags, 0o600)


def _gap(lines: int, why: str) -> bytes:
    return f"[{lines} lines are missing here: {why}]\n".encode()


def _line(at: int, observation: guests.Observation) -> bytes:
    said: dict[str, Any]
    if isinstance(observation, guests.Reported):
        said = {"reported": observation.counter, "pages": observation.pages}
    else:
        said = {type(observation).__name__.lower(): observation.text}
    return msgspec.json.encode({"at": at, **said}) + b"\n"
