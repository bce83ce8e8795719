"""A socket pair whose ends are handed to both sides over QMP (`getfd`)."""

import socket
from typing import Any

from qmptests.migration.transport.address import socket_address
from qmptests.vm.vm import VM

_NAME = "migration"


class FdTransport:
    """`fd:NAME`. One stream only: QEMU can't open further channels for multifd."""

    multifd = False

    def __init__(self) -> None:
        self._ends = socket.socketpair()

    async def listen(self, destination: VM, channels: bool) -> dict[str, Any]:
        return await self._hand_over(destination, self._ends[0], channels)

    async def connect(self, source: VM, destination: VM, channels: bool) -> dict[str, Any]:  # noqa: ARG002
        return await self._hand_over(source, self._ends[1], channels)

    async def _hand_over(self, vm: VM, end: socket.socket, channels: bool) -> dict[str, Any]:
        vm.monitor.send_fd(end.fileno())
        await vm.execute("getfd", {"fdname": _NAME})
        end.close()
        return socket_address(f"fd:{_NAME}", {"type": "fd", "str": _NAME}, channels)

    def close(self) -> None:
        for end in self._ends:
            end.close()
