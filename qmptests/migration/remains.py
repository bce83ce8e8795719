"""What the QEMUs of a run left behind: sanitizers' reports and core dumps, for the verdict."""

from typing import TYPE_CHECKING

from qmptests import builds
from qmptests.migration import cores, sanitizers
from qmptests.migration.verdict import Remains
from qmptests.outcome.record import Result
from qmptests.vm.vm import VM

if TYPE_CHECKING:
    from qmptests.migration.run import Run


def so_far(run: "Run") -> list[Remains]:
    """Of those that have ended, and what the others have said."""
    return [
        Remains(
            name=vm.name,
            exit=vm.process.status if vm.spawned else None,
            report=sanitizers.report_in(vm.files.stderr),
            core=run.cores.get(vm.name, ""),
            wrapped=bool(vm.wrapper),
            asked=vm.asked_to_quit or vm.released,
            killed=vm.killed or vm.released,
            signalled=_signalled(vm) and not vm.released,
            words=first_complaint(vm),
        )
        for vm in run.vms
    ]


def first_complaint(vm: VM) -> str:
    """The first error that QEMU wrote; later ones are mostly consequences of it."""
    for line in vm.process.last_lines(20) if vm.spawned else ():
        _, found, text = line.partition("qemu-system-")
        if found and "warning:" not in text:
            return text.partition(": ")[2]
    return ""


def _signalled(vm: VM) -> bool:
    """Whether QEMU said that a signal ended it: its exit status is 0 then."""
    events = vm.monitor.events if vm.spawned else ()
    return any(e.name == "SHUTDOWN" and e.data.get("reason") == "host-signal" for e in events)


def collected(run: "Run", since: float) -> list[Remains]:
    """Of all, each core dump being put into the evidence; `since`: when the run began."""
    for vm, side in zip(run.vms, so_far(run), strict=True):
        if side.crashed:
            run.cores[vm.name] = _core(vm, side, since)
    return so_far(run)


#: Results that a damaged file of QEMU's can cause.
_OF_DAMAGE = frozenset(
    {
        *(Result.START_FAILED, Result.CRASHED, Result.SOURCE_DIED, Result.DESTINATION_DIED),
        *(Result.TIMED_OUT, Result.NOT_RUNNING, Result.FAILED_DESTINATION_EXITED),
    }
)


def unless_damaged(run: "Run", result: Result, error: str) -> tuple[Result, str]:
    """The same, unless a build's files are not what they were: that is no fault of QEMU's."""
    if result not in _OF_DAMAGE:
        return result, error
    for build in (run.plan.source, run.plan.destination):
        if what := builds.damage(build):
            text = f"the build {build.name} is damaged: {what}; remove it, and add it again"
            return Result.ENVIRONMENT, "; ".join(filter(None, (text, error)))
    return result, error


def _core(vm: VM, side: Remains, since: float) -> str:
    assert side.exit is not None
    return cores.collect(
        vm.files.folder,
        vm.name,
        pid=None if vm.wrapper else vm.process.pid,
        dumped=side.exit.core_dumped,
        cwd=vm.host.cwd,
        since=since,
    )
