"""The owner's side: start a QEMU under a supervisor, steer its devices, hear what they did."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmptests.errors import EnvironmentFailure, TestedFailure
from qmptests.hosts import ExitStatus, LocalHost, Process, deadline, wait
from qmptests.qmp.events import Event, EventLog
from qmptests.redaction import Redaction
from qmptests.vfio import control, spec, start
from qmptests.vfio.spec import Rule, Spec

#: The descriptors that the supervisor inherits besides QEMU's own.
SETTINGS_FD = 5
CONTROL_FD = 6
#: Seconds for the supervisor to answer a request, and to report once QEMU has ended.
ANSWER_S = 10.0
REPORT_S = 30.0
#: Seconds for the supervisor to end when its owner has hung up.
END_S = 5.0


class SupervisorDied(TestedFailure):
    """The emulation ended before QEMU did; all that QEMU did from then on is of no meaning."""


class Emulation:
    """The devices of one VM. Methods run on the event loop; `spawn` first, `close` always.

    `events` are the supervisor's: "held", "fired", "state", "problem" (docs/reference/vfio.md).
    `report`: what became of each device, by name; complete once QEMU has ended.
    """

    def __init__(
        self,
        name: str,
        host: LocalHost,
        devices: Sequence[Spec],
        log: Path,
        redaction: Redaction | None = None,
    ) -> None:
        self._redaction = redaction if redaction is not None else Redaction()
        self.name = name
        self.host = host
        self.devices = list(devices)
        self.log = log
        self.events = EventLog()
        self.report: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []
        #: What its call log lost, in words.
        self.log_problem = ""
        #: The migration state of each device that has had another than RUNNING.
        self.states: dict[str, str] = {}
        #: CPU seconds of the supervisor, once it has reported.
        self.cpu_s = 0.0
        self.supervisor: Process
        self.process: Process
        self._socket: socket.socket | None = None
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._requests = 0
        #: Why it was given up, if it was.
        self._lost = ""
        #: The command that is to be started, and the process once it was.
        self._command: tuple[str, Sequence[str]] = ("", ())
        self._started: asyncio.Future[Process]
        self._reported: asyncio.Future[None]

    async def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        fds: Mapping[int, int],
        output: Path,
    ) -> Process:
        """As `LocalHost.spawn`, under a supervisor: the process is the command's."""
        loop = asyncio.get_running_loop()
        self._started, self._reported = loop.create_future(), loop.create_future()
        self._command = name, argv
        settings = {
            "argv": list(argv),
            "shown": self._redaction.arguments(argv),
            "devices": [spec.to_json(device) for device in self.devices],
            "log": str(self.log),
            "control": CONTROL_FD,
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = os.memfd_create("settings", os.MFD_CLOEXEC)
        try:
            os.write(told, json.dumps(settings).encode())
            os.lseek(told, 0, os.SEEK_SET)
            self.supervisor = await self.host.spawn(
                f"{self.name}-supervisor",
                [sys.executable, "-I", "-S", start.__file__, str(SETTINGS_FD), self.name],
                env=env,
                fds={**fds, SETTINGS_FD: told, CONTROL_FD: theirs.fileno()},
                output=output,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(told)
        ours.setblocking(False)
        self._socket = ours
        loop.add_reader(ours.fileno(), self._on_readable)
        self.supervisor.exited.add_done_callback(self._on_supervisor_end)
        try:
            return await wait(
                self._started,
                what=f"the supervisor of {self.name} to start it",
                timeout=deadline(30),
                alive=[self.supervisor],
            )
        except BaseException:
            self._hang_up()
            raise

    # --- steering -------------------------------------------------------------------------------

    async def request(self, do: str, device: str = "", **more: Any) -> dict[str, Any]:
        """Have the supervisor do something; its answer.

        `do` is "release", "status", "rule", "unrule", or a word of `script.DO` for what a device
        does by itself. Raises TestedFailure with the supervisor's words if it can't be done.
        """
        if self._socket is None:
            raise SupervisorDied(f"the supervisor of {self.name} is gone: it can't '{do}'")
        self._requests += 1
        number = self._requests
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        packet = {"id": number, "do": do, "device": device, **more}
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, json.dumps(packet).encode())
            said = await wait(
                reply,
                what=f"the supervisor of {self.name} to {do}",
                timeout=deadline(ANSWER_S),
                alive=[self.supervisor],
            )
        finally:
            self._replies.pop(number, None)
        if "error" in said:
            raise TestedFailure(f"the devices of {self.name}: {said['error']}")
        return dict(said["ok"])

    async def add_rule(self, device: str, rule: Rule) -> int:
        """Add a rule to a device's script; its number."""
        return int((await self.request("rule", device, rule=rule._asdict()))["number"])

    async def expect(
        self,
        event: str,
        matches: Callable[[dict[str, Any]], bool] = lambda _: True,
        *,
        what: str,
        timeout: float = 30.0,
        since: int = 0,
    ) -> Event:
        """The first such event from mark `since` on: a past one or the next (seconds)."""
        return await wait(
            self.events.expect(lambda e: e.name == event and matches(e.data), since),
            what=what,
            timeout=deadline(timeout),
            alive=[self.process],
        )

    # --- hearing --------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        while self._socket is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, control.MAX_PACKET, 1)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, fds = b"", []
            if not data:
                self._hang_up()
                return
            self._on_message(json.loads(data), fds)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        if "event" not in message:
            reply = self._replies.get(message["id"])
            if reply is not None and not reply.done():
                reply.set_result(message)
            return
        event = message.pop("event")
        if event == "started":
            # At once: its end may be the next message.
            self.process = self.host.adopt(*self._command, message["pid"], fds[0], self.supervisor)
            if not self._started.done():
                self._started.set_result(self.process)
        elif event == "failed":
            text = f"cannot start {self.name}: {message['words']}"
            self._started.set_exception(EnvironmentFailure(text))
        elif event == "ended":
            self._on_end(message)
        else:
            if event == "problem":
                self.problems.append(message["words"])
            elif event == "state":
                self.states[message["device"]] = message["state"]
            self.events.add(event, message, time.time())

    def _on_end(self, message: dict[str, Any]) -> None:
        self.report = {device["name"]: device for device in message["devices"]}
        self.cpu_s = message["own_cpu_s"]
        self.log_problem = message["lost"]
        status = ExitStatus(
            returncode=os.waitstatus_to_exitcode(message["status"]),
            core_dumped=os.WCOREDUMP(message["status"]),
            cpu_s=message["cpu_s"],
            max_rss_kib=message["max_rss_kib"],
        )
        if not self._reported.done():
            self._reported.set_result(None)
        self.process.ended(status)

    def _on_supervisor_end(self, ended: "asyncio.Future[ExitStatus]") -> None:
        """What it sent before is still to be read."""
        self._on_readable()
        if ended.cancelled() or ended.exception() is not None or self._reported.done():
            return
        said = ""
        if ended.result().returncode > 0 and (words := self.supervisor.last_lines(1)):
            said = f": {words[-1]}"
        how = f"{self._lost}, and {ended.result()}" if self._lost else f"{ended.result()}{said}"
        self.problems.append(f"the supervisor of {self.name} died first: it {how}")

    def _hang_up(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def answer(self) -> None:
        """Returns when the supervisor gives a sign of life; at once where none is needed."""
        if self._socket is not None and not self.supervisor.exited.done():
            with contextlib.suppress(TestedFailure, EnvironmentFailure, OSError):
                await self.request("alive")

    def lose(self, why: str) -> None:
        """Kill the supervisor, which did not answer; its QEMU dies with it."""
        if not self.supervisor.exited.done():
            self._lost = why
            self.supervisor.signal(signal.SIGKILL)

    async def finish(self) -> None:
        """QEMU has ended: wait until the supervisor has checked and reported everything."""
        with contextlib.suppress(TestedFailure, EnvironmentFailure):
            await wait(
                asyncio.shield(self._reported),
                what=f"the supervisor of {self.name} to report",
                timeout=REPORT_S,
                alive=[self.supervisor],
            )

    async def close(self) -> None:
        """Hear the rest and hang up, which ends the supervisor and a QEMU that still runs."""
        if hasattr(self, "process") and self.process.exited.done():
            await self.finish()
        self._hang_up()
        if hasattr(self, "supervisor"):
            with contextlib.suppress(EnvironmentFailure):  # the launcher is dead, and so is it
                done, _ = await asyncio.wait({self.supervisor.exited}, timeout=END_S)
                if not done:  # it has nobody to answer to any more
                    await self.supervisor.kill()
