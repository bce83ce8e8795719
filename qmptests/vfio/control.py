"""The supervisor's end of its control sockets: JSON packets from those who steer it.

SOCK_SEQPACKET, one object a packet. A request has "do" and "id"; its reply has the same "id" and
"ok" or "error". Events ("event") go to everybody who is connected.
"""

import contextlib
import json
import select
import socket
from collections.abc import Callable
from typing import Any

from qmptests.vfio import asked

MAX_PACKET = 1 << 17
#: Who comes when there are so many is sent away: descriptors are for the command's calls.
MAX_PEERS = 64
#: Packets that wait for someone who does not read.
MAX_WAITING = 10_000


class Control:
    """The sockets; `handle` answers a request, and raises ValueError with words for a bad one."""

    def __init__(
        self,
        poll: "select.poll",
        handle: Callable[[dict[str, Any]], dict[str, Any]],
        owner: socket.socket | None,
        listener: socket.socket | None,
    ) -> None:
        self._poll = poll
        self._handle = handle
        self._listener = listener
        self._peers: dict[int, socket.socket] = {}
        self._waiting: dict[int, list[bytes]] = {}
        self.owner = -1
        #: Whether there was an owner, and it has hung up.
        self.abandoned = False
        if owner is not None:
            self.owner = owner.fileno()
            self._add(owner)
        if listener is not None:
            listener.setblocking(False)
            poll.register(listener.fileno(), select.POLLIN)

    def _add(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self._peers[peer.fileno()] = peer
        self._waiting[peer.fileno()] = []
        self._poll.register(peer.fileno(), select.POLLIN)

    def __contains__(self, fd: int) -> bool:
        return fd in self._peers or (self._listener is not None and fd == self._listener.fileno())

    def ready(self, fd: int, events: int) -> None:
        """Serve a descriptor of ours that poll(2) named."""
        if self._listener is not None and fd == self._listener.fileno():
            with contextlib.suppress(OSError):
                peer = self._listener.accept()[0]
                if len(self._peers) < MAX_PEERS:
                    self._add(peer)
                else:
                    peer.close()
            return
        peer = self._peers[fd]
        if events & select.POLLOUT:
            self._send_waiting(fd)
        if events & (select.POLLIN | select.POLLHUP):
            try:
                packet = peer.recv(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if packet:
                self._answer(fd, packet)
            else:
                self._drop(fd)

    def _answer(self, fd: int, packet: bytes) -> None:
        identity = None
        try:
            request = asked.decode(packet)
            identity = asked.identity(request)
            reply = {"id": identity, "ok": self._handle(request)}
        except Exception as error:  # noqa: BLE001 - the command's calls are still to be served
            reply = {"id": identity, "error": str(error) or type(error).__name__}
        self._send(fd, json.dumps(reply).encode())

    def tell(self, event: str, **more: Any) -> None:
        """An event, to all."""
        packet = json.dumps({"event": event, **more}).encode()
        for fd in list(self._peers):
            self._send(fd, packet)

    def _send(self, fd: int, packet: bytes) -> None:
        waiting = self._waiting.get(fd)
        if waiting is not None and len(waiting) < MAX_WAITING:
            waiting.append(packet)
            self._send_waiting(fd)

    def _send_waiting(self, fd: int) -> None:
        waiting = self._waiting[fd]
        try:
            while waiting:
                self._peers[fd].send(waiting[0])
                del waiting[0]
        except BlockingIOError:
            self._poll.modify(fd, select.POLLIN | select.POLLOUT)
        except OSError:
            self._drop(fd)
        else:
            self._poll.modify(fd, select.POLLIN)

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._waiting[fd]
        self._peers.pop(fd).close()
        if fd == self.owner:
            self.owner, self.abandoned = -1, True

    def drain(self, timeout_ms: int) -> None:
        """Send what waits, for a peer that reads at all."""
        for fd in list(self._peers):
            while self._waiting.get(fd):
                if not select_out(fd, timeout_ms):
                    break
                self._send_waiting(fd)


def select_out(fd: int, timeout_ms: int) -> bool:
    """Whether something can be written to `fd` within that time."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(timeout_ms))
