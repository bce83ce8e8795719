"""VM definitions: what a TOML file in `vms/` says.

```toml
description = "one line"
machine = "q35"          # a family (q35, pc) or a full machine type (pc-q35-10.0)
memory = "256M"
cpus = 1
cpu = "qemu64"           # optional: QEMU's default otherwise
devices = ["virtio-rng-pci,addr=04.0"]   # -device options, as QEMU takes them
args = ["-boot", "menu=on"]              # anything else, verbatim, on both sides

[guest]
kind = "dirtier"         # none, dirtier; the other keys are the guest's own
```
"""

from typing import Any

import msgspec

from qmptests import guests, toml
from qmptests.errors import InputError
from qmptests.units import parse_size
from qmptests.vm import lookup

MIB = 1 << 20
_PACKAGE = "qmptests.vms"


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A VM, the same on both sides. `memory` is a size as in QEMU (256M, 1G: powers of 1024)."""

    description: str = ""
    machine: str = "q35"
    memory: str = "256M"
    cpus: int = 1
    cpu: str = ""
    devices: list[str] = []
    args: list[str] = []
    guest: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "none"})
    name: str = ""

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes; raises InputError if it is not a size."""
        return parse_size(self.memory)

    def make_guest(self) -> guests.Guest:
        """The guest that `[guest]` describes; raises InputError with the key's path."""
        parameters = {key: value for key, value in self.guest.items() if key != "kind"}
        for key, value in parameters.items():
            if isinstance(value, str):
                try:
                    parameters[key] = parse_size(value)
                except InputError as error:
                    raise InputError(f"guest.{key}: {error}") from error
        return guests.create(self.guest["kind"], parameters, ram=self.memory_bytes)


def shipped() -> list[str]:
    """The names of the definitions that come with qmptests."""
    return lookup.names(_PACKAGE)


def load(name_or_path: str) -> Definition:
    """A shipped definition by name, or one's own by its path.

    Raises InputError with the file and line (syntax) or key path (values).
    """
    return parse(*lookup.read(name_or_path, _PACKAGE, "VM definition"))


def parse(text: str, where: str, name: str) -> Definition:
    """A definition from TOML text; `where` names it in errors."""
    definition = toml.convert(text, where, Definition, name=name)
    _check(definition, where)
    return definition


def _check(definition: Definition, where: str) -> None:
    try:
        size = definition.memory_bytes
    except InputError as error:
        raise InputError(f"{where}: memory: {error}") from error
    if size < MIB or size % MIB:
        raise InputError(f"{where}: memory: {definition.memory} is not a whole number of MiB")
    if not 1 <= definition.cpus <= 4096:
        raise InputError(f"{where}: cpus: {definition.cpus} is not between 1 and 4096")
    if not isinstance(definition.guest.get("kind"), str):
        raise InputError(f"{where}: guest.kind: missing")
    try:
        definition.make_guest()
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
