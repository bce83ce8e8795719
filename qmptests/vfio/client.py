"""Steering a supervisor that listens on a socket (`qmptests vfio run`), from another process."""

import contextlib
import errno
import json
import os
import secrets
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmptests.errors import InputError, TestedFailure
from qmptests.vfio import asked
from qmptests.vfio.control import MAX_PACKET

#: Seconds for the supervisor to answer.
ANSWER_S = 10.0
#: The longest path of a UNIX socket: `sun_path` of unix(7), and its NUL.
LONGEST = 107
_NAME = "qmptests-vfio-{}.sock"


def folder() -> Path:
    """Where the sockets are that nobody gave a path: $XDG_RUNTIME_DIR, else $TMPDIR, else /tmp."""
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(own) if own and os.access(own, os.W_OK) else Path(tempfile.gettempdir())


def own_path() -> Path:
    """A socket for this process, if nobody says otherwise; its name can't be foretold."""
    return folder() / _NAME.format(f"{os.getpid()}-{secrets.token_hex(4)}")


def listen(path: Path) -> socket.socket:
    """A socket at `path` for those who steer, who must be the same user. Raises InputError."""
    if len(os.fsencode(path)) > LONGEST:
        raise InputError(f"{path} is too long for a socket: name a shorter one with --control")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        why = "it exists already" if error.errno == errno.EADDRINUSE else error.strerror
        raise InputError(f"cannot listen on {path}: {why}") from error
    finally:
        os.umask(mask)
    return listener


def running() -> list[Path]:
    """The sockets in `folder` behind which somebody of ours listens.

    One that a killed supervisor left is removed. Others can write there: what isn't a socket of
    this user's is left alone, and no link is followed.
    """
    found = []
    for path in sorted(folder().glob(_NAME.format("*"))):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
                continue
            try:
                with _connect(path) as connection:
                    if _user_behind(connection) == os.geteuid():
                        found.append(path)
            except ConnectionRefusedError:
                path.unlink()
    return found


def _user_behind(connection: socket.socket) -> int:
    """Who listens at the other end: SO_PEERCRED of unix(7), a `struct ucred`."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", credentials)[1])


def only_one() -> Path:
    """The socket of the one that runs; raises InputError, which lists them, if it isn't one."""
    found = running()
    if not found:
        raise InputError(f"no `qmptests vfio run` has its socket in {folder()}: name it (--socket)")
    if len(found) > 1:
        raise InputError(f"several are running, choose by --socket: {', '.join(map(str, found))}")
    return found[0]


class Client:
    """A connection. Raises InputError if nobody listens at `path`."""

    def __init__(self, path: Path) -> None:
        try:
            self._socket = _connect(path)
        except OSError as error:
            raise InputError(
                f"no `qmptests vfio run` listens on {path}: {error.strerror}"
            ) from error
        self._path = path
        self._events: list[dict[str, Any]] = []

    def request(self, do: str, device: str = "", **more: Any) -> dict[str, Any]:
        """As `Emulation.request`. Raises InputError with the supervisor's words."""
        self._socket.settimeout(ANSWER_S)
        packet = {"id": 1, "do": do, "device": device, **more}
        try:
            self._socket.sendall(json.dumps(packet).encode())
            while (message := self._receive()) is not None:
                if "event" not in message:
                    break
                self._events.append(message)
        except TimeoutError as error:
            text = f"the supervisor at {self._path} did not answer within {ANSWER_S:g} s"
            raise TestedFailure(text) from error
        except BrokenPipeError:
            message = None
        if message is None:
            raise TestedFailure(f"the supervisor at {self._path} has ended")
        if "error" in message:
            raise InputError(str(message["error"]))
        if not isinstance(message.get("ok"), dict):
            raise self.senseless()
        return dict(message["ok"])

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens, as it happens, until the supervisor ends."""
        self._socket.settimeout(None)
        while self._events:
            yield self._events.pop(0)
        while (message := self._receive()) is not None:
            yield message

    def _receive(self) -> dict[str, Any] | None:
        """The next packet, or None at the end."""
        try:
            data = self._socket.recv(MAX_PACKET)
        except ConnectionResetError:
            return None
        try:
            return asked.decode(data) if data else None
        except ValueError as error:
            raise self.senseless() from error

    def senseless(self) -> TestedFailure:
        """The error for an answer that is none."""
        return TestedFailure(f"what answers at {self._path} is no supervisor of this version")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(ANSWER_S)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection
