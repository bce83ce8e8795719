"""The guest's serial port: kept in a file, and read by the guest's own reader."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from qmptests import guests
from qmptests.errors import EnvironmentFailure


class Console:
    """Drains `sock` on the event loop into `path` and into `guest`, which makes sense of it.

    Like the transcript it never stops a migration: a failed write is kept in `problem`.
    """

    def __init__(self, sock: socket.socket, path: Path, guest: guests.Console) -> None:
        self.guest = guest
        self.reports = 0
        self.reboots = 0
        self.problem: OSError | None = None
        self._sock = sock
        self._changed = asyncio.Event()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {path}: {error.strerror}") from error
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
        if self.problem is None:
            try:
                os.write(self._fd, data)
            except OSError as error:
                self.problem = error
        for seen in self.guest.feed(data):
            self.reports += isinstance(seen, guests.Reported)
            self.reboots += isinstance(seen, guests.Rebooted)
        self._changed.set()

    def close(self) -> None:
        """Take what is still there, and close."""
        if self._fd >= 0:
            self._on_readable()
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            os.close(self._fd)
            self._fd = -1
