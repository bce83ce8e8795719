"""How the stream travels: a file for each transport, behind one protocol."""

from collections.abc import Callable
from typing import Any, Protocol

from qmptests.errors import InputError
from qmptests.migration.transport.fd import FdTransport
from qmptests.migration.transport.tcp import TcpTransport
from qmptests.migration.transport.unix import UnixTransport
from qmptests.vm.vm import VM


class Transport(Protocol):
    """One connection for one attempt; `channels` chooses the address form (else `uri`)."""

    multifd: bool

    async def listen(self, destination: VM, channels: bool) -> dict[str, Any]:
        """Prepare, and return the arguments for `migrate-incoming`."""
        ...

    async def connect(self, source: VM, destination: VM, channels: bool) -> dict[str, Any]:
        """After `migrate-incoming`: return the arguments for `migrate`."""
        ...

    def close(self) -> None:
        """Remove what the transport left in the file system; close its descriptors."""
        ...


_KINDS: dict[str, Callable[[], Transport]] = {
    "unix": UnixTransport,
    "tcp": TcpTransport,
    "fd": FdTransport,
}
KINDS = tuple(_KINDS)


def make(kind: str) -> Transport:
    """The transport called `kind`; raises InputError naming those that exist."""
    if kind not in _KINDS:
        raise InputError(f"unknown transport '{kind}': there are {', '.join(KINDS)}")
    return _KINDS[kind]()
