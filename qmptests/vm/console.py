"""The guest's serial port: kept in a file, and read by the guest's own reader."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from qmptests import guests


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
        self._path = path
        self._fd = -1
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
        self._write(data)
        for seen in self.guest.feed(data):
            self.reports += isinstance(seen, guests.Reported)
            self.reboots += isinstance(seen, guests.Rebooted)
        self._changed.set()

    def _write(self, data: bytes) -> None:
        """The file is there once there is something to keep: firmware alone mostly says nothing."""
        if self.problem is None:
            try:
                if self._fd < 0:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                    self._fd = os.open(self._path, flags, 0o644)
                os.write(self._fd, data)
            except OSError as error:
                self.problem = error

    def close(self) -> None:
        """Take what is still there, and close."""
        if self._sock.fileno() >= 0:
            self._on_readable()
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
