"""A supervisor without an owner (`qmptests vfio run`): it hears signals, and says what came of it.

Standard library only.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from qmptests import printable

#: Signals that a terminal sends to the command as well.
_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
#: Exit status if the command is content but its data is not.
WRONG = 1


class Signals:
    """Until there is a command a signal ends us; from then on it is the command's to handle.

    SIGTERM, which whoever started us sends to us alone, is handed on. The signals are blocked when
    we start, so that none is lost before.
    """

    def __init__(self) -> None:
        self._pidfd = -1
        for number in (*_TERMINAL, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def follow(self, pidfd: int) -> None:
        """From now on there is a command."""
        self._pidfd = pidfd

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._pidfd < 0:
            for other in (*_TERMINAL, signal.SIGTERM):  # it may come twice, by the guard as well
                signal.signal(other, signal.SIG_IGN)
            sys.exit(128 + number)
        if number == signal.SIGTERM:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, number)


def say(text: str) -> None:
    """A line on standard error, which may be gone."""
    with contextlib.suppress(OSError):
        os.write(2, f"qmptests: {printable.one_line(text)}\n".encode())


def status_of(wait_status: int, devices: Iterable[dict[str, Any]]) -> int:
    """Our exit status, as a shell has the command's; WRONG for 0 with wrong data."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code == 0 and any(device["arrival"] and device["arrival"]["problem"] for device in devices):
        return WRONG
    return code if code >= 0 else 128 - code


def words(device: dict[str, Any]) -> str:
    """What became of a device, in one line; `device` as `Emulated.report` has it."""
    name = f"{device['name']} ({device['profile']})"
    if not device["calls"]:
        return f"{name}: the command did not use it"
    parts = [device["state"]]
    if sent := sum(chunk["bytes"] for chunk in device["sent"]):
        parts.append(f"{sent} bytes sent")
    if arrival := device["arrival"]:
        verdict = f"wrong: {arrival['problem']}" if arrival["problem"] else "right"
        parts.append(f"{arrival['received_bytes']} bytes arrived, {verdict}")
    if device["unfired"]:
        parts.append(f"never fired: {', '.join(device['unfired'])}")
    return f"{name}: {'; '.join(parts)}"
