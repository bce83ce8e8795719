"""A UNIX socket in the scratch directory."""

from pathlib import Path
from typing import Any

from qmptests.migration.transport.address import socket_address
from qmptests.vm.vm import VM


class UnixTransport:
    """`unix:PATH`."""

    multifd = True

    def __init__(self) -> None:
        self._path: Path | None = None

    async def listen(self, destination: VM, channels: bool) -> dict[str, Any]:
        self._path = destination.host.new_socket_path()
        return self._address(channels)

    async def connect(self, source: VM, destination: VM, channels: bool) -> dict[str, Any]:  # noqa: ARG002
        return self._address(channels)

    def _address(self, channels: bool) -> dict[str, Any]:
        path = str(self._path)
        return socket_address(f"unix:{path}", {"type": "unix", "path": path}, channels)

    def close(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
