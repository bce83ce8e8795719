"""TCP over loopback; the kernel chooses the port."""

from typing import Any

from qmptests.errors import TestedFailure
from qmptests.migration.transport.address import socket_address
from qmptests.vm.vm import VM


class TcpTransport:
    """`tcp:127.0.0.1:0`, and the port that the destination then reports."""

    multifd = True

    async def listen(self, destination: VM, channels: bool) -> dict[str, Any]:  # noqa: ARG002
        return _address("0", channels)

    async def connect(self, source: VM, destination: VM, channels: bool) -> dict[str, Any]:  # noqa: ARG002
        status = await destination.execute("query-migrate")
        try:
            port = str(status["socket-address"][0]["port"])
        except (KeyError, IndexError) as error:
            raise TestedFailure(
                f"{destination.name} does not say on which port it listens: {status}"
            ) from error
        return _address(port, channels)

    def close(self) -> None:
        """Nothing is left."""


def _address(port: str, channels: bool) -> dict[str, Any]:
    address = {"type": "inet", "host": "127.0.0.1", "port": port}
    return socket_address(f"tcp:127.0.0.1:{port}", address, channels)
