"""What probing found out about a QEMU binary."""

import difflib
import re

import msgspec

from qmptests.errors import InputError

#: Machine families and what their versioned types' names begin with; others are named as they are.
FAMILIES = {"q35": "pc-q35-", "pc": "pc-i440fx-"}


class Machine(msgspec.Struct, frozen=True):
    """A machine type, as `query-machines` describes it."""

    name: str
    alias: str | None = None
    deprecated: bool = False
    is_default: bool = False
    cpu_max: int = 1
    default_ram_id: str | None = None
    """The memory backend that the type makes for itself, or None if it makes none."""


class Facts(msgspec.Struct, frozen=True):
    """What a QEMU binary is and can do, from its own mouth."""

    version: tuple[int, int, int]
    version_text: str
    """The version with the packager's remark, such as `10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`."""
    target: str
    """The emulated architecture, such as `x86_64`."""
    machines: list[Machine]
    devices: frozenset[str]
    """Names that `-device` takes; abstract types are not among them."""
    capabilities: frozenset[str]
    """Migration capabilities."""
    parameters: frozenset[str]
    """Migration parameters that `migrate-set-parameters` takes."""
    commands: frozenset[str]
    events: frozenset[str]
    """QMP commands and events."""
    trace_events: frozenset[str]
    trace_backends: list[str]
    accelerators: list[str]
    """Compiled in, or there as a module; whether they work on a host is another question."""

    def machine(self, name: str) -> Machine:
        """The machine type with this name or alias; raises InputError if there is none."""
        for machine in self.machines:
            if name in (machine.name, machine.alias):
                return machine
        near = difflib.get_close_matches(name, [m.name for m in self.machines], 3)
        hint = f"; near it are {', '.join(near)}" if near else ""
        raise InputError(f"QEMU {self.version_text} has no machine type '{name}'{hint}")

    def resolve_machine(self, name: str) -> str:
        """The full name behind a name or alias: `q35` is `pc-q35-10.0`."""
        return self.machine(name).name

    def has_machine(self, name: str) -> bool:
        """Whether there is a machine type with this name or alias."""
        return any(name in (machine.name, machine.alias) for machine in self.machines)

    def has_device(self, name: str) -> bool:
        """Whether `-device` takes this name."""
        return name in self.devices

    def has_capability(self, name: str) -> bool:
        """Whether there is a migration capability of this name."""
        return name in self.capabilities

    def has_parameter(self, name: str) -> bool:
        """Whether there is a migration parameter of this name."""
        return name in self.parameters

    def versions_of(self, family: str) -> dict[tuple[int, ...], str]:
        """The versioned machine types of a family, in order: `{(10, 0): "pc-q35-10.0", ...}`."""
        prefix = re.escape(FAMILIES.get(family, f"{family}-"))
        found = {}
        for machine in self.machines:
            if matched := re.fullmatch(rf"{prefix}(\d+(?:\.\d+)*)", machine.name):
                found[tuple(int(part) for part in matched[1].split("."))] = machine.name
        return dict(sorted(found.items()))
