"""From a run to its record: what was observed, put into the outcome's structures."""

import contextlib
import functools
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qmptests.builds import Build, is_same_binary
from qmptests.migration import losses, reproduce
from qmptests.migration.plan import Plan
from qmptests.outcome.record import (
    AttemptRecord,
    BuildRecord,
    DeviceRecord,
    EventRecord,
    ExitRecord,
    GuestRecord,
    HostRecord,
    OutcomeRecord,
    PlanRecord,
    Result,
    SideRecord,
    TimesRecord,
    TraceRecord,
)
from qmptests.redaction import Redaction
from qmptests.trace import is_perturbing
from qmptests.vm import tracing
from qmptests.vm.vm import VM

if TYPE_CHECKING:
    from qmptests.migration.run import Run


def outcome(run: "Run", created: float, result: Result, error: str) -> OutcomeRecord:
    """The record of a run whose processes are gone; writes `reproduce.sh` beside it."""
    plan = run.plan
    lost = hide_in_logs(run.folder, run.redaction)
    record = OutcomeRecord(
        qmptests=own_version(),
        name=plan.name,
        cell=plan.cell,
        created=created,
        host=host_record(),
        plan=plan_record(plan, run.machine),
        source=side(run, run.source),
        destinations=[side(run, vm) for vm in run.destinations],
        attempts=run.attempts,
        memory=run.memory,
        source_ran_on=run.source_ran_on,
        phases=run.phases,
        result=result,
        error=error,
        same_binary=plan.source.name != plan.destination.name
        and is_same_binary(plan.source, plan.destination),
    )
    sides = [s for s in (record.source, *record.destinations) if s is not None]
    record.perturbed = any(s.trace.perturbing for s in sides)
    lost += [problem for vm in run.vms for problem in vm.problems()]
    record.evidence_problems = [*lost, *losses.of(sides, lost)]
    record = without_secrets(record, run.redaction)
    try:
        pending = run.redaction.tree(run.pending_commands)
        reproduce.write(run.folder, run.output, record, pending)
    except OSError as problem:
        record.evidence_problems.append(f"reproduce.sh: {problem.strerror}")
    with contextlib.suppress(OSError):
        record.evidence = files(run.folder)
    return record


def without_secrets(record: OutcomeRecord, redaction: Redaction) -> OutcomeRecord:
    """The record, each secret in it being replaced by its name."""
    if not redaction:
        return record
    return msgspec.convert(redaction.tree(msgspec.to_builtins(record)), OutcomeRecord)


def hide_in_logs(folder: Path, redaction: Redaction) -> list[str]:
    """QEMU repeats its arguments in what it writes; a log that can't be searched is removed.

    Returns what was lost, in words.
    """
    problems = []
    for path in sorted(folder.iterdir()) if redaction else ():
        if path.name.endswith((".log", ".jsonl")):
            try:
                redaction.file(path, seen=path.name.endswith(".stderr.log"))
            except OSError as error:
                path.unlink(missing_ok=True)
                problems.append(f"{path.name} was removed, it may hold secrets: {error.strerror}")
    return problems


def plan_record(plan: Plan, machine: str) -> PlanRecord:
    """The plan, with its machine type resolved."""
    return PlanRecord(
        machine=machine,
        accelerator=plan.accelerator,
        definition=msgspec.to_builtins(plan.definition),
        capabilities=dict(plan.capabilities),
        parameters=plan.all_parameters,
        transport=plan.transport,
        address_form="channels" if plan.channels else "uri",
        trace=list(plan.patterns),
        expected=plan.expected,
        timeout_s=plan.timeout_s,
        devices=list(msgspec.to_builtins(plan.devices)),
        destination_machine=plan.destination_machine,
        destination_definition=msgspec.to_builtins(plan.destination_definition),
        destination_devices=None
        if plan.destination_devices is None
        else list(msgspec.to_builtins(plan.destination_devices)),
        source_args=list(plan.source_args),
        destination_args=list(plan.destination_args),
        cancel_at=plan.cancel_at,
        retries=plan.retries,
        exit_on_error=plan.exit_on_error,
        wrapper=list(plan.wrapper),
        pause_on_failure=plan.pause_on_failure,
    )


def files(folder: Path) -> dict[str, str]:
    """What there is of evidence in a folder."""
    return {path.name: path.name for path in sorted(folder.iterdir()) if path.is_file()}


def side(run: "Run", vm: VM) -> SideRecord:
    """One QEMU process, as it was."""
    status = vm.process.status if vm.spawned else None
    emulation = vm.emulation
    return SideRecord(
        name=vm.name,
        build=build_record(vm.build),
        argv=[arg.replace(str(run.folder), str(run.output)) for arg in vm.argv],
        environment=dict(vm.build.env),
        runstate=run.runstates.get(vm.name, ""),
        migration=run.migration_info.get(vm.name, {}),
        events=[
            EventRecord(name=e.name, data=e.data, first=e.first, last=e.last, count=e.count)
            for e in (vm.monitor.events if vm.spawned else ())
        ],
        exit=None
        if status is None
        else ExitRecord(
            returncode=status.returncode,
            text=str(status),
            cpu_s=status.cpu_s,
            max_rss_kib=status.max_rss_kib,
            asked=vm.asked_to_quit,
            core_dumped=status.core_dumped,
            core=run.cores.get(vm.name, ""),
        ),
        trace=trace_record(vm, run.plan.patterns),
        guest=GuestRecord(
            ready=vm.guest_console.ready,
            counter=vm.guest_console.counter,
            reports=vm.console.reports if vm.spawned else 0,
            reboots=vm.console.reboots if vm.spawned else 0,
        ),
        stderr_tail=vm.process.last_lines(10) if vm.spawned else [],
        devices=msgspec.convert(list(emulation.report.values()), list[DeviceRecord])
        if emulation
        else [],
        emulation_problems=emulation.problems if emulation else [],
        supervisor_cpu_s=emulation.cpu_s if emulation else 0.0,
    )


def trace_record(vm: VM, patterns: tuple[str, ...]) -> TraceRecord:
    """What was traced on one side, read once from its log."""
    record = TraceRecord(
        enabled=sorted(vm.trace.log.enabled),
        unmatched=list(tracing.resolve(vm.build, patterns).unmatched),
    )
    if vm.files.trace.is_file():  # what else may be there is told by `VM.problems`
        record.volume = vm.trace.log.volume
        record.perturbing = is_perturbing(record.volume)
    return record


def build_record(build: Build) -> BuildRecord:
    return BuildRecord(
        name=build.name,
        spec=build.spec,
        version=".".join(str(n) for n in build.facts.version),
        version_text=build.facts.version_text,
        digest=build.digest,
        origin=dict(build.origin),
    )


def attempt(
    *,
    status: str,
    started: float,
    ended: float,
    info: dict[str, Any],
    destination: int,
    commands: list[dict[str, Any]],
) -> AttemptRecord:
    """One `migrate` command; `info` is the source's query-migrate after its end."""
    return AttemptRecord(
        destination=destination,
        started=started,
        ended=ended,
        status=status,
        error=str(info.get("error-desc", "")),
        times=TimesRecord(
            total_ms=info.get("total-time"),
            downtime_ms=info.get("downtime"),
            setup_ms=info.get("setup-time"),
            expected_downtime_ms=info.get("expected-downtime"),
        ),
        commands=commands,
    )


@functools.cache
def own_version() -> str:
    """The version of qmptests that is running."""
    return metadata.version("qmptests")


@functools.cache
def _fixed_host_facts() -> tuple[str, str, str, int, int, str]:
    cpu = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123
        names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
        cpu = names[0] if names else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    name = platform.uname()
    return (
        name.node,
        name.release,
        cpu or name.machine,
        os.cpu_count() or 1,
        memory,
        platform.python_version(),
    )


def host_record() -> HostRecord:
    """This machine, and how busy it is."""
    hostname, kernel, cpu, cpus, memory, python = _fixed_host_facts()
    return HostRecord(
        hostname=hostname,
        kernel=kernel,
        cpu=cpu,
        cpus=cpus,
        memory_bytes=memory,
        python=python,
        load_1min=os.getloadavg()[0],
    )
