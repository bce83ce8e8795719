"""One QMP connection, on the event loop.

`qemu.qmp` speaks the protocol. Its default event listener queues for ever and its message
callbacks format every message for a debug log; both are replaced, which also makes the callbacks
the place where each message is stamped, transcribed and counted at receipt.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec
from qemu.qmp import ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate, StateError
from qemu.qmp.message import Message
from qemu.qmp.qmp_client import BadReplyError

from qmptests.errors import TestedFailure
from qmptests.hosts import ProcessDied, WaitTimeout, Watched, deadline, wait
from qmptests.qmp.events import Event, EventLog
from qmptests.qmp.transcript import Transcript

T = TypeVar("T")

# It logs what it also raises; without a handler Python would print that on the user's terminal.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

#: Seconds that QEMU has to answer a command; none of those that we send works in the background.
ANSWER_S = 30.0


class CommandError(TestedFailure):
    """QEMU answered a command with an error; `error_class` and `desc` are QEMU's own words."""

    def __init__(self, name: str, command: str, error_class: str, desc: str) -> None:
        super().__init__(f"{name}: {command}: {desc}")
        self.command = command
        self.error_class = error_class
        self.desc = desc


class MonitorLost(TestedFailure):
    """The connection ended or what came over it was not QMP."""


class _Client(QMPClient):
    """`qemu.qmp`'s client, with our taps."""

    def __init__(self, name: str, tap: "Monitor") -> None:
        super().__init__(name)
        self.tap = tap
        self.events.names = {"(none: all events go to the tap)"}

    def _cb_outbound(self, msg: Message) -> Message:
        self.tap._sent(_plain(msg))
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        self.tap._received(_plain(msg))
        return msg

    async def _bh_recv_message(self) -> None:
        try:
            await super()._bh_recv_message()
        except Exception as error:
            self.tap._lose(error)
            raise


@dataclass(frozen=True, slots=True)
class _Connection:
    """What a wait watches besides the process: its end is an error."""

    name: str
    exited: "asyncio.Future[None]"

    def last_lines(self, count: int = 5) -> list[str]:  # noqa: ARG002
        return []


class Monitor:
    """The QMP connection of one VM. Methods run on the event loop.

    `alive` are the processes whose death ends every wait at once.
    """

    def __init__(
        self, name: str, transcript: Transcript | None = None, alive: Sequence[Watched] = ()
    ) -> None:
        self.name = name
        self.events = EventLog()
        self.alive = list(alive)
        self._transcript = transcript
        self._client = _Client(name, self)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost.add_done_callback(lambda future: future.cancelled() or future.exception())

    async def connect(self, sock: socket.socket, timeout: float = 30.0) -> None:
        """Take over `sock`, wait for the greeting, and negotiate (out-of-band included).

        Raises MonitorLost for anything but a QMP greeting, ProcessDied or WaitTimeout (seconds).
        """
        try:
            await self._watching(self._client.connect(sock), "the QMP greeting", timeout)
        except AssertionError as error:  # qemu.qmp's own: it was lost again while connecting
            await self._raise_lost("connect", error)
        except QMPError as error:
            cause = error.__cause__ or error
            detail = "end of file" if isinstance(cause, EOFError) else str(cause).split("\n")[0]
            await self._raise_if_dead("the QMP greeting")
            raise MonitorLost(f"{self.name}: no QMP greeting: {detail}") from error

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout: float | None = ANSWER_S,
        oob: bool = False,
    ) -> Any:
        """Run a command and return its value. Raises CommandError with QEMU's own text."""
        if self._client.runstate != Runstate.RUNNING:
            await self._raise_lost(command)
        what = f"the answer to {command}"
        try:
            return await self._watching(
                self._client.execute(command, arguments, oob=oob), what, timeout
            )
        except ExecuteError as error:
            raise CommandError(self.name, command, error.error_class, str(error)) from error
        except BadReplyError as error:
            raise MonitorLost(f"{self.name}: {command}: {error.error_message}") from error
        except (ExecInterruptedError, StateError) as error:  # StateError: lost just before
            await self._raise_lost(command, error)

    async def expect(
        self,
        name: str,
        matches: Callable[[dict[str, Any]], bool] = lambda _: True,
        *,
        what: str,
        timeout: float | None,
        since: int = 0,
    ) -> Event:
        """The first event `name` whose data matches, from mark `since` on (see EventLog)."""
        return await self._watching(
            self.events.expect(lambda e: e.name == name and matches(e.data), since), what, timeout
        )

    @property
    def connected(self) -> bool:
        """Whether commands can be sent: after `connect`, and until the connection is lost."""
        return bool(self._client.runstate == Runstate.RUNNING) and not self._lost.done()

    def send_fd(self, fd: int) -> None:
        """Send a descriptor along with the next command (getfd, add-fd); it stays ours."""
        self._client.send_fd_scm(fd)

    @property
    def transcript_problem(self) -> str:
        """What the transcript lost, in words; "" for nothing."""
        return self._transcript.problem if self._transcript is not None else ""

    async def lost(self) -> None:
        """Returns when the connection has ended, for whatever reason."""
        with contextlib.suppress(MonitorLost):
            await asyncio.shield(self._lost)

    async def close(self) -> None:
        """Disconnect; a connection that is already lost is fine."""
        with contextlib.suppress(Exception):
            await wait(self._client.disconnect(), what="QMP to disconnect", timeout=5)
        if self._transcript is not None:
            self._transcript.close()

    async def _watching(self, aim: Awaitable[T], what: str, timeout: float | None) -> T:
        what = f"{what} from {self.name}"
        watched = [*self.alive, _Connection(self.name, self._lost)]
        try:
            return await wait(aim, what=what, timeout=deadline(timeout), alive=watched)
        except MonitorLost:
            await self._raise_lost(what)

    async def _raise_if_dead(self, what: str) -> None:
        """A lost connection is mostly a dead process, whose end is reported a moment later."""
        if self.alive:
            with contextlib.suppress(WaitTimeout):
                await wait(asyncio.Event().wait(), what=what, timeout=1.0, alive=self.alive)

    async def _raise_lost(self, what: str, cause: BaseException | None = None) -> NoReturn:
        await self._raise_if_dead(what)
        reason = self._lost.exception() if self._lost.done() else None
        if reason is not None:
            raise reason
        raise MonitorLost(f"{self.name}: the QMP connection is closed ({what})") from cause

    def _sent(self, message: dict[str, Any]) -> None:
        if self._transcript is not None:
            self._transcript.sent(message)

    def _received(self, message: dict[str, Any]) -> None:
        if self._transcript is not None:
            self._transcript.received(message)
        name = message.get("event")
        if isinstance(name, str):
            data = message.get("data")
            self.events.add(name, data if isinstance(data, dict) else {}, _time(message))

    def _lose(self, error: Exception) -> None:
        if not self._lost.done():
            reason = "QEMU closed it" if isinstance(error, EOFError) else str(error).split("\n")[0]
            self._lost.set_exception(
                MonitorLost(f"{self.name}: the QMP connection was lost: {reason}")
            )


def _plain(message: Message) -> dict[str, Any]:
    """The message as a dict: from the bytes that it keeps anyway, ten times as fast as dict()."""
    try:
        plain: dict[str, Any] = msgspec.json.decode(bytes(message))
    except msgspec.DecodeError:  # Python's parser takes a little more
        return dict(message)
    return plain


def _time(message: dict[str, Any]) -> float:
    """An event's own time stamp (seconds since the epoch); 0.0 if it has none."""
    stamp = message.get("timestamp")
    if not isinstance(stamp, dict):
        return 0.0
    return float(stamp.get("seconds", 0)) + float(stamp.get("microseconds", 0)) / 1e6


__all__ = ["CommandError", "Monitor", "MonitorLost", "ProcessDied", "WaitTimeout"]
