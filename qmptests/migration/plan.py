"""One migration that is to be done."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from qmptests import builds
from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.migration import settings, transport
from qmptests.outcome.record import Result
from qmptests.trace import LOW_VOLUME, LOW_VOLUME_VFIO
from qmptests.vm import dialect, tracing
from qmptests.vm.definition import Definition

#: QEMU's states in which a cancel can be asked for, in the order in which they come.
CANCEL_AT = ("active", "pre-switchover")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to migrate, from where to where, how, and what is expected to come of it.

    `machine`: a full machine type, or "" for the newest of the definition's family that both
    builds know; `destination_machine`: another one there, to see it refused. `trace`: patterns of
    more trace events than the low-volume set that is always on, for both sides. `cancel_at`: the
    state in which `migrate_cancel` is sent; then `retries` more attempts follow, each to a new
    destination. `timeout_s`: for each attempt, from `migrate` to its end.
    """

    source: Build
    destination: Build
    definition: Definition
    machine: str = ""
    accelerator: str = "tcg"
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    parameters: Mapping[str, settings.Value] = field(default_factory=dict)
    transport: str = "unix"
    channels: bool = False
    trace: tuple[str, ...] = ()
    expected: Result = Result.COMPLETED
    timeout_s: float = 60.0
    source_args: tuple[str, ...] = ()
    destination_args: tuple[str, ...] = ()
    destination_machine: str = ""
    cancel_at: str = ""
    retries: int = 0

    @property
    def name(self) -> str:
        """A folder name made of names: builds, machine and VM."""
        parts = (
            f"s{self.source.name}",
            f"d{self.destination.name}",
            f"m.{self.resolved_machine().removeprefix('pc-')}",
            f"v.{self.definition.name or 'vm'}",
        )
        return re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The trace events to switch on: the low-volume set, and what was asked for."""
        options = (*self.definition.devices, *self.definition.args)
        options += (*self.source_args, *self.destination_args)
        vfio = LOW_VOLUME_VFIO if any(o.startswith("vfio") for o in options) else ()
        return tuple(dict.fromkeys((*LOW_VOLUME, *vfio, *self.trace)))

    def resolved_machine(self) -> str:
        """The full machine type; raises InputError if a build lacks it, naming those it has."""
        wanted = self.machine or self.definition.machine
        if wanted in {"q35", "pc"}:
            return builds.newest_common_machine(self.source, self.destination, wanted)
        for build in (self.source, self.destination):
            build.facts.resolve_machine(wanted)
        return wanted

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
        if not self.timeout_s > 0:  # nor is "nan" a time
            raise InputError(f"a deadline of {self.timeout_s:g} s has passed already")
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
            parameters = settings.parameters_for(self.parameters, source=is_source)
            settings.check(build, side, "parameter", parameters, facts.parameters)
