"""One migration, from two processes started to both gone and the evidence written."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from qmptests import eventloop, hosts
from qmptests.builds import Build
from qmptests.errors import QmptestsError, TestedFailure, exhausted
from qmptests.hosts import LocalHost, ProcessDied, WaitTimeout
from qmptests.migration import (
    aftermath,
    arrival,
    collect,
    halt,
    remains,
    settings,
    transport,
    verdict,
)
from qmptests.migration.observers import Observer, Phase
from qmptests.migration.plan import Plan
from qmptests.outcome import folder, modes
from qmptests.outcome.outcome import Outcome
from qmptests.outcome.record import (
    AttemptRecord,
    MemoryRecord,
    OutcomeRecord,
    PhaseRecord,
    Result,
)
from qmptests.redaction import Redaction
from qmptests.vm import terminal, tracing
from qmptests.vm.command import Options
from qmptests.vm.vm import VM

#: The source's states in which a migration is over (qapi/migration.json, MigrationStatus).
ENDED = frozenset({"completed", "failed", "cancelled"})
#: Seconds that the source has to notice that the destination is gone.
NOTICE_S = 10.0
#: Seconds that a destination has to exit after its source gave up.
EXIT_S = 2.0
#: Bytes a second at which a migration that is to be cancelled stays in `active`.
HELD_BANDWIDTH = 1 << 16
#: Results of an attempt after which another can follow; failures only if none was to be cancelled.
_CANCELLED = frozenset({Result.CANCELLED})
_FAILED = frozenset({Result.FAILED_DESTINATION_ALIVE, Result.FAILED_DESTINATION_EXITED})
#: Phases that are over in a moment, after which as much time is given anew.
UNLIMITED = frozenset({Phase.STARTED, Phase.CONFIGURED, Phase.READY, Phase.LISTENING})
#: Seconds after which a teardown is overdue.
TEARDOWN_S = 2.0
#: QEMU's default for max-bandwidth, bytes a second.
DEFAULT_BANDWIDTH = 128 << 20


def migrate(
    plan: Plan, output: Path, observers: Sequence[Observer] = (), *, mode: int = modes.PRIVATE
) -> Outcome:
    """Do what `plan` says and write the evidence to the folder `output`; from any thread.

    `mode`: of the folder, once it is whole.

    Returns an outcome whatever QEMU does. Raises InputError before anything is started, and
    EnvironmentFailure when this machine could not do it.
    """
    plan.check()
    run = Run(plan, output, observers, mode)
    try:
        return eventloop.run(run.go())
    except KeyboardInterrupt as interrupt:
        if run.evidence is not None:
            interrupt.add_note(f"evidence: {run.evidence}")
        raise
    except Exception as error:
        failure = exhausted(error)
        if failure is None:
            raise
        if run.evidence is not None:
            failure.add_note(f"evidence: {run.evidence}")
        raise failure from error


class Run:
    """A run of a plan. Observers see it at each phase; `go` is called once."""

    def __init__(
        self,
        plan: Plan,
        output: Path,
        observers: Sequence[Observer] = (),
        mode: int = modes.PRIVATE,
    ) -> None:
        self._mode = mode
        self.plan = plan
        self.output = output.absolute()
        self.phase: Phase | None = None
        self.phases: list[PhaseRecord] = []
        self.attempts: list[AttemptRecord] = []
        self.memory: MemoryRecord | None = None
        self.source_ran_on: bool | None = None
        self._guest_ran_on = False
        self.source: VM
        self.destinations: list[VM] = []
        self.runstates: dict[str, str] = {}
        self.migration_info: dict[str, dict[str, Any]] = {}
        #: What became of the core dumps of those that crashed.
        self.cores: dict[str, str] = {}
        self._observers = list(observers)
        self.machine = plan.resolved_machine()
        self._guest = plan.definition.make_guest()
        #: What is left out of all that is kept: secrets of the plan, of arguments and commands.
        self.redaction = Redaction()
        self.redaction.tree(msgspec.to_builtins(collect.plan_record(plan, self.machine)))
        self.pending_commands: list[dict[str, Any]] = []
        self._began = time.monotonic()
        self._guard = hosts.Guard(self._relied_on)
        self._halt: halt.Halt
        #: Where the evidence is now: nowhere yet, in the partial folder, or in its final place.
        self.evidence: Path | None = None
        self.folder: Path

    @property
    def destination(self) -> VM:
        """The destination of the attempt that is going on."""
        return self.destinations[-1]

    @property
    def vms(self) -> list[VM]:
        """All of them, the source first."""
        return [self.source, *self.destinations]

    def _relied_on(self) -> list[hosts.Relied]:
        """Those without whom nothing ends, if they are stopped; a debugger may stop its QEMU."""
        emulations = [vm.emulation for vm in self.vms if vm.emulation is not None]
        qemus = [halt.Qemu(vm, self._halt) for vm in self.vms if not vm.wrapper]
        return [self.source.host, *emulations, *qemus]

    async def go(self) -> Outcome:
        """Run it all. Teardown and evidence come whatever happens in between."""
        created = time.time()
        self._halt = halt.Halt()
        host = hosts.local()
        self.folder = self.evidence = folder.begin(self.output, self._mode)
        self.source = self._vm("source", host, self.plan.source, self.plan.source_args)
        debugged = bool(self.plan.wrapper)
        with terminal.restored(debugged), contextlib.closing(self._guard):
            self._guard.expect(self.plan.timeout_s)
            with hosts.without_deadlines(debugged):
                result, error, failure = await self._go()
            interrupted = isinstance(failure, asyncio.CancelledError)
            self._halt.over()
            self._guard.hurry(TEARDOWN_S)
            with hosts.without_deadlines(debugged and not interrupted):
                ending = asyncio.ensure_future(self._end(created, result, error, failure))
            try:
                record, final = await asyncio.shield(ending)
            except asyncio.CancelledError:
                # An interrupt that comes now would only lose evidence; a debugger is ended.
                for vm in self.vms if debugged else ():
                    vm.kill_at_once()
                await asyncio.wait({ending})
                ending.exception()
                raise
        if failure is not None and not isinstance(failure, TestedFailure):
            failure.add_note(f"evidence: {final}")
            raise failure
        return Outcome(record, final)

    async def _go(self) -> tuple[Result, str, BaseException | None]:
        """Up to the teardown: the result, its reason, and the error that it came from."""
        failure: BaseException | None = None
        result, error = Result.INTERRUPTED, ""
        try:
            attempts = self._attempts()
            result, error = await hosts.wait(
                attempts, what="the migration", timeout=None, alive=[self._halt]
            )
        except BaseException as problem:  # noqa: BLE001 - it is recorded, and raised again in `go`
            failure = problem
            result, error = verdict.of_error(problem, self.phase), _line(problem)
        error = self.redaction.text(error) if self.redaction else error
        if result is Result.INTERRUPTED:
            return result, error, failure
        try:
            self.source_ran_on = await aftermath.source_ran_on(self, result)
            judged = verdict.of_remains(result, error, remains.so_far(self))
            if self.plan.pause_on_failure:
                self._guard.close()  # a person may take all the time, and stop what he likes
            for observer in self._observers:
                await observer.judged(*judged, self)
        except asyncio.CancelledError as interrupt:
            failure = interrupt  # but the result was there before
        except Exception as problem:  # noqa: BLE001 - as above
            failure = problem
            result, error = verdict.of_error(problem, self.phase), _line(problem)
        return result, error, failure

    async def _end(
        self, created: float, result: Result, error: str, failure: BaseException | None
    ) -> tuple[OutcomeRecord, Path]:
        """Stop what runs and write the evidence."""
        failed_in = self.phase
        problems = await asyncio.gather(*(vm.stop() for vm in self.vms), return_exceptions=True)
        try:
            await self._reached(Phase.STOPPED)
            for problem in problems:
                if problem is not None and not isinstance(problem, QmptestsError):
                    raise problem
        finally:
            lost = [str(p) for p in problems if isinstance(p, QmptestsError)]
            lost += [str(self.source.host.dead)] if self.source.host.dead else []
            result, error = verdict.of_lost(result, error, lost)
            left = remains.collected(self, created)
            result, error = verdict.of_remains(result, error, left)
            record = collect.outcome(self, created, result, error)
            judged = verdict.of_devices(result, record.error, record.source, record.destinations)
            record.result, record.error = remains.unless_damaged(self, *judged)
            record.last_phase = failed_in or ""
            reports = [side.report.lines for side in left if side.report]
            tail = reports[0] if reports else getattr(failure, "tail", [])
            record.error_tail = self.redaction.tree(tail) if self.redaction else tail
            try:
                self.evidence = folder.finish(self.folder, record, self._mode)
            finally:  # the error says where it is
                self.source.host.finished(self.folder)
        return record, self.evidence

    async def execute(self, vm: VM, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a QMP command that belongs to the plan: it is kept for `reproduce.sh`."""
        self.pending_commands.append(
            {"side": vm.name.partition("-")[0], "execute": command, "arguments": arguments or {}}
        )
        return await vm.execute(command, arguments)

    async def _attempts(self) -> tuple[Result, str]:
        await self.source.host.start()
        self.source.host.begun(self.folder)
        # The destination first: once it is there, no time passes before there is work for it.
        await self._start(self._new_destination(), self.source)
        await self._reached(Phase.STARTED)
        result, error = await self._attempt(self.plan.cancel_at)
        for _ in range(self.plan.retries):
            if result not in (_CANCELLED if self.plan.cancel_at else _CANCELLED | _FAILED):
                break
            await self._stop([self.destination])
            await self._start(self._new_destination())
            result, error = await self._attempt("")
        return result, error

    def _new_destination(self) -> VM:
        number = len(self.destinations) + 1
        name = "destination" if number == 1 else f"destination-{number}"
        vm = self._vm(name, self.source.host, self.plan.destination, self.plan.destination_args)
        self.destinations.append(vm)
        return vm

    def _vm(self, name: str, host: LocalHost, build: Build, extra: tuple[str, ...]) -> VM:
        machine = self.machine
        if name != "source" and self.plan.destination_machine:
            machine = self.plan.destination_machine
        options = Options(
            machine=machine,
            accelerator=self.plan.accelerator,
            incoming=name != "source",
            trace=list(tracing.resolve(build, self.plan.patterns).matched),
            devices=self.plan.devices_of(source=name == "source"),
            extra=list(extra),
            monitor_socket=str(host.new_socket_path()) if self.plan.pause_on_failure else "",
        )
        definition = self.plan.definition_of(source=name == "source")
        return VM(
            *(name, host, build, definition, options, self._guest, self.folder),
            wrapper=self.plan.wrapper,
            redaction=self.redaction,
        )

    async def _start(self, *vms: VM) -> None:
        """Start them side by side; the first error is raised once all have started or failed."""
        problems = await asyncio.gather(*(vm.start() for vm in vms), return_exceptions=True)
        for problem in problems:
            if problem is not None:
                raise problem

    async def _stop(self, vms: Sequence[VM]) -> None:
        await asyncio.gather(*(vm.stop() for vm in vms))

    async def _reached(self, phase: Phase) -> None:
        self.phase = phase
        if phase in UNLIMITED:
            self._guard.expect(self.plan.timeout_s)
        at_ms = round((time.monotonic() - self._began) * 1e3, 3)
        self.phases.append(PhaseRecord(name=phase, at_ms=at_ms))
        for observer in self._observers:
            await observer.reached(phase, self)

    async def _configure(self, vm: VM, hold: bool) -> None:
        source = vm is self.source
        capabilities = settings.capabilities_for(self.plan.capabilities, source=source)
        await self.execute(
            vm,
            "migrate-set-capabilities",
            {"capabilities": [{"capability": k, "state": v} for k, v in capabilities.items()]},
        )
        parameters = settings.parameters_for(self.plan.all_parameters, source=source)
        if source and hold:
            parameters["max-bandwidth"] = HELD_BANDWIDTH
        elif source and self.attempts:
            parameters.setdefault("max-bandwidth", DEFAULT_BANDWIDTH)
        if parameters:
            await self.execute(vm, "migrate-set-parameters", parameters)

    async def _attempt(self, cancel_at: str) -> tuple[Result, str]:
        source, destination = self.source, self.destination
        await asyncio.gather(
            self._configure(source, hold=cancel_at == "active"),
            self._configure(destination, hold=False),
        )
        await self._reached(Phase.CONFIGURED)
        await source.guest_ready()
        await destination.devices_ready()
        await self._reached(Phase.READY)
        way = transport.make(self.plan.transport)
        try:
            arguments = await way.listen(destination, self.plan.channels)
            if not self.plan.exit_on_error:
                arguments["exit-on-error"] = False
            await self.execute(destination, "migrate-incoming", arguments)
            arguments = await way.connect(source, destination, self.plan.channels)
            await self._reached(Phase.LISTENING)
            self._deadline = asyncio.get_running_loop().time() + self.plan.timeout_s
            self._mark = source.monitor.events.mark
            started = time.time()
            await self.execute(source, "migrate", arguments)
            progress = asyncio.ensure_future(self._report_progress())
            try:
                status = await self._until_end(cancel_at)
            finally:
                await hosts.abandon(progress)
            await self._reached(Phase.ENDED)
        finally:
            way.close()
        return await self._end_of_attempt(status, started)

    async def _until_end(self, cancel_at: str) -> str:
        """Follow the source through its states; the last one."""
        status = await self._source_reaches({"active", "pre-switchover"})
        if status == "active":
            await self._reached(Phase.ACTIVE)
            if cancel_at == "active":
                await self.execute(self.source, "migrate_cancel")
            elif self.plan.capabilities.get("pause-before-switchover"):
                status = await self._source_reaches({"pre-switchover"})
        if status == "pre-switchover":
            await self._reached(Phase.PRE_SWITCHOVER)
            if cancel_at == "pre-switchover":
                await self.execute(self.source, "migrate_cancel")
            else:
                await self.execute(self.source, "migrate-continue", {"state": "pre-switchover"})
        return await self._source_reaches(set())

    def _time_left(self) -> float:
        """Seconds until this attempt's deadline."""
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def _source_reaches(self, states: set[str]) -> str:
        """The first of `states`, or the end, that the source reports in this attempt."""
        wanted = states | ENDED
        what = f"migration status {' or '.join(sorted(states)) or 'completed'}"
        destination = self.destination.process
        aim = asyncio.ensure_future(
            self.source.monitor.expect(
                "MIGRATION",
                lambda data: data.get("status") in wanted,
                what=what,
                timeout=self._time_left(),
                since=self._mark,
            )
        )
        try:
            either: set[asyncio.Future[Any]] = {aim, destination.exited}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not aim.done():
                # The source notices by itself; if it doesn't, that is the finding.
                done, _ = await asyncio.wait({aim}, timeout=hosts.deadline(NOTICE_S))
                if not done:
                    raise ProcessDied(
                        destination.name,
                        destination.exited.result(),
                        what,
                        destination.last_lines(),
                    )
            return str((await aim).data["status"])
        finally:
            await hosts.abandon(aim)

    async def _end_of_attempt(self, status: str, started: float) -> tuple[Result, str]:
        source, destination = self.source, self.destination
        ended = time.time()
        counter = source.guest_console.counter
        if status == "completed":
            await self._arrived(counter)
            await aftermath.devices_stopped(self)
        else:
            await self._gave_up()
        await asyncio.gather(*(self._look_at(vm) for vm in (source, destination)))
        info = self.migration_info.get(source.name, {})
        self.attempts.append(
            collect.attempt(
                status=status,
                started=started,
                ended=ended,
                info=info,
                destination=len(self.destinations) - 1,
                commands=self.pending_commands,
            )
        )
        self.pending_commands = []
        return verdict.of_end(
            verdict.Observed(
                status=status,
                error=info.get("error-desc", ""),
                destination_words=remains.first_complaint(destination),
                source_runstate=self.runstates.get(source.name, ""),
                destination_runstate=self.runstates.get(destination.name, ""),
                destination_alive=destination.alive,
                memory_right=self.memory.right if self.memory else None,
                reboots=arrival.reboots(destination),
                checkable=bool(self._guest.ranges),
                ran_on=self._guest_ran_on,
                memory_problem="; ".join(self.memory.problems[:1]) if self.memory else "",
            )
        )

    async def _gave_up(self) -> None:
        """The destination exits, or says that it failed if it was told not to exit."""
        destination = self.destination
        if self.plan.exit_on_error:
            await asyncio.wait({destination.process.exited}, timeout=EXIT_S)
            return
        with contextlib.suppress(TestedFailure):
            await destination.monitor.expect(
                "MIGRATION",
                lambda data: data.get("status") == "failed",
                what="the destination to fail",
                timeout=EXIT_S,
            )

    async def _look_at(self, vm: VM) -> None:
        if vm.spawned and vm.process.exited.done():
            vm.process.exited.result()  # raises if nobody knows how it ended: the launcher is dead
        with contextlib.suppress(TestedFailure):
            if vm.alive:
                self.migration_info[vm.name], self.runstates[vm.name] = await asyncio.gather(
                    vm.execute("query-migrate"), vm.runstate()
                )

    async def _arrived(self, counter: int | None) -> None:
        """The destination runs, its guest counts on, and its memory is what was written."""
        destination = self.destination
        with contextlib.suppress(WaitTimeout):  # the verdict says so, with both run states
            await destination.monitor.expect(
                "RESUME",
                what="the RESUME event",
                timeout=self._time_left(),
            )
        await self._reached(Phase.ARRIVED)
        if self._guest.ranges:
            self.memory, self._guest_ran_on = await arrival.check(destination, self._guest, counter)
        await self._reached(Phase.CHECKED)

    async def _report_progress(self) -> None:
        watching = [o for o in self._observers if o.interval_s is not None]
        if not watching:
            return
        with contextlib.suppress(TestedFailure):
            while True:
                await asyncio.sleep(min(o.interval_s or 1.0 for o in watching))
                status = await self.source.execute("query-migrate")
                for observer in watching:
                    await observer.progress(status, self)


def _line(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "interrupted"
    return str(error) or type(error).__name__
