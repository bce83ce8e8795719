"""One migration that is to be done."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from qmptests import builds
from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.migration import settings, transport
from qmptests.outcome import effects
from qmptests.outcome.record import Result
from qmptests.trace import LOW_VOLUME, LOW_VOLUME_VFIO
from qmptests.vm import devices, dialect, tracing
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile

#: QEMU's states in which a cancel can be asked for, in the order in which they come.
CANCEL_AT = ("active", "pre-switchover")
#: Seconds: the longest deadline of an attempt.
LONGEST_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Plan:
    """What to migrate, from where to where, how, and what is expected to come of it.

    `machine`: a full machine type, or "" for the newest of the definition's family that both
    builds know. `destination_machine`, `destination_definition` and `destination_devices`: others
    there, to see them refused; the destination may lack that machine type, and then `machine` too.
    `devices`: what both sides get besides. `trace`: patterns of more trace events than the
    low-volume set that is always on, for both sides. `cancel_at`: the state in which
    `migrate_cancel` is sent. `retries`: attempts that may follow, each to a new destination, after
    one that was cancelled or, without `cancel_at`, failed.
    `timeout_s`: for each attempt, from `migrate` to its end. `wrapper`: words before each QEMU's
    command line (a debugger), in which `{side}` becomes its name; there are no deadlines then.
    `exit_on_error`: what `migrate-incoming` is told (QEMU 9.1); true is QEMU's default.
    `pause_on_failure`: each QEMU has a QMP socket besides, for `PauseOnFailure`.
    """

    source: Build
    destination: Build
    definition: Definition
    machine: str = ""
    devices: tuple[DeviceProfile, ...] = ()
    accelerator: str = "tcg"
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    parameters: Mapping[str, settings.Value] = field(default_factory=dict)
    transport: str = "unix"
    channels: bool = False
    trace: tuple[str, ...] = ()
    expected: Result = Result.COMPLETED
    timeout_s: float = 60.0
    source_args: tuple[str, ...] = field(default=(), repr=False)  # they may hold secrets
    destination_args: tuple[str, ...] = field(default=(), repr=False)
    destination_machine: str = ""
    destination_definition: Definition | None = None
    destination_devices: tuple[DeviceProfile, ...] | None = None
    cancel_at: str = ""
    retries: int = 0
    exit_on_error: bool = True
    cell: str = ""
    wrapper: tuple[str, ...] = field(default=(), repr=False)
    pause_on_failure: bool = False

    @property
    def name(self) -> str:
        """A folder name made of names: the cell's id, or builds, machine and VM."""
        if self.cell:
            return self.cell
        parts = (
            f"s{self.source.name}",
            f"d{self.destination.name}",
            f"m.{self.resolved_machine().removeprefix('pc-')}",
            f"v.{self.definition.name or 'vm'}",
            *(f"x.{profile.name}" for profile in self.devices),
        )
        return re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The trace events to switch on: the low-volume set, what shows that capabilities have an
        effect, and what was asked for."""
        options = (*self.definition.devices, *self.definition.args)
        options += (*self.source_args, *self.destination_args)
        options += tuple(driver for profile in self.devices for driver in profile.drivers)
        vfio = LOW_VOLUME_VFIO if any(o.startswith("vfio") for o in options) else ()
        witnesses = effects.events(self.capabilities)
        return tuple(dict.fromkeys((*LOW_VOLUME, *vfio, *witnesses, *self.trace)))

    @property
    def all_parameters(self) -> dict[str, settings.Value]:
        """The migration parameters that are set: those that were asked for, and one for devices.

        By default QEMU switches over when 38 MiB are left (128 MiB/s for 300 ms), and never if an
        idle guest keeps the bandwidth that it measures low. So unless something is said of
        bandwidth or downtime, what emulated devices have in stop-copy fits into the limit.
        """
        found = dict(self.parameters)
        if not found.keys() & settings.CONVERGENCE:
            stop_copy = sum(
                profile.vfio.stop_copy_bytes for profile in self.devices if profile.vfio
            )
            if stop_copy:
                found[settings.SWITCHOVER_BANDWIDTH] = settings.switchover_bandwidth(stop_copy)
        return found

    def resolved_machine(self) -> str:
        """The full machine type; raises InputError if a build lacks it, naming those it has."""
        wanted = self.machine or self.definition.machine
        if wanted in {"q35", "pc"}:
            return builds.newest_common_machine(self.source, self.destination, wanted)
        self.source.facts.resolve_machine(wanted)
        if not self.destination_machine:
            self.destination.facts.resolve_machine(wanted)
        return wanted

    def definition_of(self, *, source: bool) -> Definition:
        """The VM on that side."""
        return self.definition if source else self.destination_definition or self.definition

    def devices_of(self, *, source: bool) -> tuple[DeviceProfile, ...]:
        """The device profiles on that side."""
        other = None if source else self.destination_devices
        return self.devices if other is None else other

    def check(self) -> None:
        """Raise InputError for anything that is known to be impossible, before anything starts."""
        self.resolved_machine()
        way = transport.make(self.transport)
        way.close()
        if self.capabilities.get("multifd") and not way.multifd:
            raise InputError(f"multifd needs further channels, which '{self.transport}' can't give")
        if self.cancel_at and self.cancel_at not in CANCEL_AT:
            raise InputError(f"cannot cancel at '{self.cancel_at}': {', '.join(CANCEL_AT)}")
        if self.cancel_at == "pre-switchover" and not self.capabilities.get(
            "pause-before-switchover"
        ):
            raise InputError(
                "cancelling at pre-switchover needs capability pause-before-switchover"
            )
        if self.wrapper and shutil.which(self.wrapper[0]) is None:
            raise InputError(f"the wrapper '{self.wrapper[0]}' is not a program that can be run")
        if not 0 < self.timeout_s <= LONGEST_S:  # nor is "nan" a time
            raise InputError(
                f"a deadline of {self.timeout_s:g} s is impossible: it is more than 0, and "
                f"{LONGEST_S} s (a year) at most"
            )
        for pattern in self.trace:
            if not any(
                tracing.resolve(b, (pattern,)).matched for b in (self.source, self.destination)
            ):
                raise InputError(
                    f"no trace event of {self.source.name} or {self.destination.name} "
                    f"matches '{pattern}'"
                )
        for side, build in (("source", self.source), ("destination", self.destination)):
            facts = build.facts
            is_source = side == "source"
            accelerator = self.accelerator.partition(",")[0]
            if accelerator not in facts.accelerators:
                raise InputError(
                    f"the {side} {build.name} has no accelerator '{accelerator}': "
                    f"it has {', '.join(facts.accelerators)}"
                )
            if self.channels and not dialect.has(facts.version, dialect.Feature.CHANNELS):
                raise InputError(
                    f"the {side} {build.name} does not take 'channels' (QEMU 8.2): use the uri form"
                )
            capabilities = settings.capabilities_for(self.capabilities, source=is_source)
            settings.check(build, side, "capability", capabilities, facts.capabilities)
            devices.check(build, side, self.devices_of(source=is_source))
            parameters = settings.parameters_for(self.all_parameters, source=is_source)
            settings.check(build, side, "parameter", parameters, facts.parameters)
