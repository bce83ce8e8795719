"""Devices work whatever QEMU runs in: its own sandbox, KVM, a wrapper, shared guest memory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase
from qmptests.suites.vfio import asked
from qmptests.vfio import descriptors

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

#: As libvirt has it: no new privileges, no other programs.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
SIDES = ("source", "destination")


class Processes(Observer):
    """What /proc says of the processes that were started (proc_pid_status(5)), a field for each."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.values: list[str] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Look once QEMU answers."""
        if phase is Phase.STARTED:
            for vm in run.vms:
                status = Path(f"/proc/{vm.process.pid}/status").read_text("utf-8")
                fields = dict(line.split(":", 1) for line in status.splitlines())
                self.values.append(fields[self.field].strip())


def arrives(migration: "Migrate", vfio: "Vfio", *observers: Observer, **plan: Any) -> "Outcome":
    """The outcome of a migration in which a device's data, and the guest, have arrived."""
    device = vfio.emulated("busy", initial="4M", stop_copy="1M", late_after="1M")
    outcome = migration(devices=[device], capabilities=["return-path"], **plan).run(*observers)
    assert outcome.completed, outcome
    (there,) = outcome.destination.record.devices
    assert there.arrival is not None
    assert (there.arrival.problem, bool(there.arrival.chunks)) == ("", True)
    return outcome


def test_a_sandbox_of_qemus_own(migration: "Migrate", vfio: "Vfio") -> None:
    """Two filters hold at once: QEMU's `-sandbox`, and that under which its calls are answered."""
    args = ("-sandbox", SANDBOX)
    filters = Processes("Seccomp_filters")
    arrives(migration, vfio, filters, source_args=args, destination_args=args)
    assert filters.values == ["2", "2"]


def test_kvm_is_told_of_each_device(migration: "Migrate", vfio: "Vfio") -> None:
    """The kernel's KVM has no such file; it is told, and answered, all the same."""
    wanted = migration(devices=[vfio.emulated()])
    for side in SIDES:
        build = getattr(wanted.plan, side)
        if "kvm" not in build.facts.accelerators:
            pytest.skip(f"the {side} {build.name} has no accelerator 'kvm'")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm that this user may use")
    outcome = arrives(migration, vfio, accelerator="kvm")
    for side in SIDES:
        (call,) = asked.calls(outcome, side).calls("kvm-file-add")
        assert call.with_ == {"fd": descriptors.device(0)}
        assert call.answer == {}


def test_a_wrapper(migration: "Migrate", vfio: "Vfio") -> None:
    """QEMU is not the supervisor's own child then, as under a debugger or a shell."""
    wrapper = ("sh", "-c", '"$@"; exit $?', "sh")
    started = Processes("Name")
    arrives(migration, vfio, started, wrapper=wrapper)
    assert started.values == ["sh", "sh"]


def test_memory_of_a_file_is_mapped_as_such(migration: "Migrate", vfio: "Vfio") -> None:
    """Guest memory that has a descriptor: since 10.1 it is given to iommufd by that."""
    plan = migration().plan
    memory = f"memory-backend-memfd,id=ram0,size={plan.definition.memory},share=on"
    args = ("-object", memory, "-machine", "memory-backend=ram0")
    outcome = arrives(migration, vfio, source_args=args, destination_args=args)
    for side in SIDES:
        version = getattr(plan, side).facts.version
        log = asked.calls(outcome, side)
        by_file = [call.with_["length"] for call in log.calls("ioas-map-file")]
        if version >= (10, 1):
            assert plan.definition.memory_bytes in by_file
        else:
            assert by_file == []
