"""One VM: a QEMU process with its monitor, its console and its files, from start to teardown."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmptests.builds import Build
from qmptests.errors import EnvironmentFailure, InputError, TestedFailure
from qmptests.guests import Guest, MemoryRange
from qmptests.hosts import LocalHost, Process, deadline, wait
from qmptests.qmp import Monitor, Transcript
from qmptests.redaction import Redaction
from qmptests.trace import TraceFollower, TraceLog
from qmptests.vfio.emulation import Emulation
from qmptests.vfio.profile import to_spec
from qmptests.vm import command, terminal, tracing
from qmptests.vm.console import Console
from qmptests.vm.definition import Definition

#: Seconds for a QEMU to start and greet; one under valgrind or on a loaded machine takes long.
START_S = 60.0
#: Seconds for QEMU to answer `quit`, and to exit then, before SIGKILL.
QUIT_ANSWER_S = 3.0
QUIT_S = 10.0
#: Of the emulated devices' data: the same on both sides, so that each knows what is to arrive.
SEED = 1


@dataclass(frozen=True, slots=True)
class Files:
    """The evidence files of one VM, in one folder, by fixed names."""

    folder: Path
    name: str

    @property
    def stderr(self) -> Path:
        return self.folder / f"{self.name}.stderr.log"

    @property
    def trace(self) -> Path:
        return self.folder / f"{self.name}.trace.log"

    @property
    def console(self) -> Path:
        return self.folder / f"{self.name}.console.log"

    @property
    def guest(self) -> Path:
        return self.folder / f"{self.name}.guest.jsonl"

    @property
    def qmp(self) -> Path:
        return self.folder / f"{self.name}.qmp.jsonl"

    @property
    def vfio(self) -> Path:
        return self.folder / f"{self.name}.vfio.jsonl"


class VM:
    """A QEMU process. Methods run on the event loop; `start` first, `stop` always.

    `trace` can be awaited while it runs: `await vm.trace.wait_for("migrate_set_state", ...)`.
    `wrapper`: words before QEMU's command line (a debugger); `process` is theirs then.
    `redaction`: the secrets of the run, to which those of its arguments and commands are added.
    """

    def __init__(
        self,
        name: str,
        host: LocalHost,
        build: Build,
        definition: Definition,
        options: command.Options,
        guest: Guest,
        folder: Path,
        wrapper: Sequence[str] = (),
        redaction: Redaction | None = None,
    ) -> None:
        self.redaction = redaction if redaction is not None else Redaction()
        self.name = name
        self.host = host
        self.build = build
        self.definition = definition
        self.options = options
        self.guest = guest
        self.files = Files(folder, name)
        self.wrapper = [word.replace("{side}", name) for word in wrapper]
        self.argv: list[str] = []
        self.process: Process
        self.monitor: Monitor
        self.console: Console
        self.guest_console = guest.console(resumed=options.incoming)
        self.trace = TraceFollower(
            TraceLog(
                self.files.trace,
                enabled=tracing.resolve(build, tuple(options.trace)).enabled,
                known=build.facts.trace_events,
            )
        )
        #: Its emulated devices, if it has any.
        self.emulation = self._emulation()
        self.asked_to_quit = False
        #: It was asked to, did not do so, and was killed.
        self.killed = False
        #: A person may end it: how it ends says nothing of QEMU.
        self.released = False
        self.spawned = False

    def _emulation(self) -> Emulation | None:
        side = "destination" if self.options.incoming else "source"
        profiles = [(p.name, p.vfio) for p in self.options.devices if p.vfio]
        specs = [
            to_spec(profile, command.emulated_name(n), SEED, profile_name=name, side=side)
            for n, (name, profile) in enumerate(profiles)
        ]
        if not specs:
            return None
        return Emulation(self.name, self.host, specs, self.files.vfio, self.redaction)

    async def start(self) -> None:
        """Start QEMU and negotiate QMP.

        Raises ProcessDied with QEMU's own last words when it refuses its command line, and
        EnvironmentFailure when it can't be started at all. What was started is stopped again.
        """
        guest_args = self.guest.arguments(self.files.folder)
        self.argv = command.command_line(
            self.build.argv,
            self.build.facts.version,
            self.definition,
            self.options,
            guest_args=guest_args,
            trace_file=self.files.trace,
        )
        with contextlib.ExitStack() as undo:
            self.redaction.arguments([*self.wrapper, *self.argv])
            transcript = Transcript(self.files.qmp, self.redaction)
            undo.callback(transcript.close)
            qmp, qmp_child = socket.socketpair()
            undo.callback(qmp.close)
            console, console_child = socket.socketpair()
            undo.callback(console.close)
            with qmp_child, console_child, terminal.lent(bool(self.wrapper)) as standard:
                self.console = Console(
                    console, self.files.console, self.files.guest, self.guest_console
                )
                undo.callback(self.console.close)
                starter = self.emulation or self.host
                self.process = await starter.spawn(
                    self.name,
                    [*self.wrapper, *self.argv],
                    env=self.build.env,
                    fds={
                        **standard,
                        command.QMP_FD: qmp_child.fileno(),
                        command.CONSOLE_FD: console_child.fileno(),
                    },
                    output=self.files.stderr,
                )
            undo.pop_all()
        self.monitor = Monitor(self.name, transcript, alive=[self.process])
        self.spawned = True
        try:
            await self.monitor.connect(qmp, timeout=START_S)
        except BaseException:
            qmp.close()
            await self.stop()
            raise

    async def execute(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a QMP command; see Monitor.execute."""
        return await self.monitor.execute(name, arguments)

    async def runstate(self) -> str:
        """QEMU's run state: running, paused, inmigrate, postmigrate, ..."""
        return str((await self.execute("query-status"))["status"])

    @property
    def alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self.spawned and not self.process.exited.done()

    async def guest_ready(self, timeout: float = 30.0) -> None:
        """Wait (seconds) until the guest has begun its work; `none` always has."""
        await wait(
            self.console.until(lambda: self.guest_console.ready),
            what=f"the guest of {self.name} to say that it is ready",
            timeout=deadline(timeout),
            alive=[self.process],
        )

    async def devices_ready(self, timeout: float = 60.0) -> None:
        """Wait (seconds) until there is memory for what emulated devices are to receive.

        Their data would else wait for page faults, which real devices don't have.
        """
        if self.emulation is not None:
            what = f"memory for what is to arrive at {self.name}"
            await self.emulation.expect("ready", what=what, timeout=timeout)

    async def guest_counts_beyond(self, counter: int, timeout: float = 10.0) -> None:
        """Wait (seconds) until the guest's counter has gone beyond `counter`: it runs here."""
        await wait(
            self.console.until(lambda: (self.guest_console.counter or 0) > counter),
            what=f"the guest's counter to go beyond {counter} on {self.name}",
            timeout=deadline(timeout),
            alive=[self.process],
        )

    async def snapshot(self, ranges: Sequence[MemoryRange]) -> tuple[list[Path], float]:
        """Guest memory as files, one for each range, and how long it took in ms.

        The VM is stopped for that time, since a pattern that is being written is only consistent
        in one instant, and goes on afterwards.
        """
        need = sum(memory.length for memory in ranges)
        room = shutil.disk_usage(self.host.scratch).free
        if room < need:
            raise EnvironmentFailure(
                f"{self.host.scratch.parent} has {room} bytes left, the guest's memory takes "
                f"{need}: free some space there, or set TMPDIR"
            )
        files = [self.host.scratch / f"{self.name}-{os.urandom(6).hex()}" for _ in ranges]
        started = time.monotonic()
        await self.execute("stop")
        try:
            for path, memory in zip(files, ranges, strict=True):
                await self.execute(
                    "pmemsave",
                    {"val": memory.address, "size": memory.length, "filename": str(path)},
                )
        finally:
            await self.execute("cont")
        return files, (time.monotonic() - started) * 1e3

    async def set_trace(self, pattern: str, on: bool) -> list[str]:
        """Switch trace events on or off at run time; returns the names that the pattern means.

        Raises InputError if the build has no event that matches. Events that were ever on can be
        counted: `trace.log` knows them as confirmed.
        """
        states = await self.execute("trace-event-get-state", {"name": pattern})
        names = [s["name"] for s in states if s["state"] != "unavailable"]
        if not names:
            raise InputError(f"{self.name}: {self.build.name} has no trace event {pattern}")
        await self.execute("trace-event-set-state", {"name": pattern, "enable": on})
        if on:
            self.trace.log.confirm(names)
        return names

    async def stop(self) -> None:
        """End QEMU: `quit`, and SIGKILL if it doesn't. Safe at any time, more than once."""
        if not self.spawned:
            return
        try:
            if not self.process.exited.done():
                self.asked_to_quit = True
                with contextlib.suppress(EnvironmentFailure):  # the launcher is dead, and so is it
                    await self._quit()
        except asyncio.CancelledError:
            self.kill_at_once()
            raise
        finally:
            if self.wrapper:  # its own end says nothing of QEMU's
                self.kill_at_once()
            if self.options.monitor_socket:
                Path(self.options.monitor_socket).unlink(missing_ok=True)
            self.console.close()
            await self.monitor.close()
            if self.emulation is not None:
                await self.emulation.close()

    async def _quit(self) -> None:
        """One that does not even answer (stopped, stuck) gets no time to exit in."""
        if self.monitor.connected:
            with contextlib.suppress(TestedFailure):
                await self.monitor.execute("quit", timeout=QUIT_ANSWER_S)
                await wait(
                    asyncio.shield(self.process.exited),
                    what=f"{self.name} to quit",
                    timeout=deadline(QUIT_S),
                )
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, for a wrapper together with what it started; returns when it is reaped."""
        self.kill_at_once()
        await self.process.kill()

    def kill_at_once(self) -> None:
        """The same, without waiting for the end."""
        if self.asked_to_quit and not self.process.exited.done():
            self.killed = True
        if self.wrapper:
            self.host.kill_with_descendants(self.process)
        else:
            self.process.signal(signal.SIGKILL)

    def problems(self) -> list[str]:
        """Evidence that could not be written, in words."""
        if not self.spawned:
            return []
        found = {**self.console.problems, self.files.qmp: self.monitor.transcript_problem}
        if self.emulation is not None:
            found[self.files.vfio] = self.emulation.log_problem
        for path in (self.files.stderr, self.files.trace):
            if path.exists() and not path.is_file():
                found[path] = "something else was put into its place"
        if not self.files.stderr.exists():
            found[self.files.stderr] = "was removed while it was written"
        lost = {path: problem for path, problem in found.items() if problem}
        return [f"{path.name}: {problem}" for path, problem in lost.items()]
