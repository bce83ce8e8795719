"""A UNIX socket in the scratch directory."""

import os
from pathlib import Path
from typing import Any

from qmptests.errors import EnvironmentFailure
from qmptests.migration.transport.address import socket_address
from qmptests.vm.vm import VM

#: Bytes in a socket's path (unix(7): 108 with the end mark).
SUN_PATH = 107


class UnixTransport:
    """`unix:PATH`."""

    multifd = True

    def __init__(self) -> None:
        self._path: Path | None = None

    async def listen(self, destination: VM, channels: bool) -> dict[str, Any]:
        # In the scratch directory: results folders are too long.
        self._path = destination.host.scratch / f"{os.urandom(4).hex()}.sock"
        if len(os.fsencode(self._path)) > SUN_PATH:
            raise EnvironmentFailure(
                f"{self._path} is too long for a UNIX socket ({SUN_PATH} bytes at most): set "
                "TMPDIR to a shorter directory"
            )
        return self._address(channels)

    async def connect(self, source: VM, destination: VM, channels: bool) -> dict[str, Any]:  # noqa: ARG002
        return self._address(channels)

    def _address(self, channels: bool) -> dict[str, Any]:
        path = str(self._path)
        return socket_address(f"unix:{path}", {"type": "unix", "path": path}, channels)

    def close(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
