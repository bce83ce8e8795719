"""The axes of a matrix: for each coordinate, the values that were asked for."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from qmptests.builds import Build
from qmptests.builds.facts import FAMILIES
from qmptests.builds.registry import version_order
from qmptests.errors import InputError
from qmptests.migration import settings, transport
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile

#: The value of an axis on which nothing is added: no device, no capability.
NONE = "none"


@dataclass(frozen=True)
class Axes:
    """What a matrix is made of. The first value of an axis is its ordinary one.

    `machines`: full machine types, patterns such as `pc-q35-*` over what the builds have, or
    families (`q35`, `pc`), which mean the newest type that both sides of a pair know. Empty: all
    versioned types of the builds' usual families. `pairs`: which sources go to which
    destinations; see `all_pairs`.
    """

    pairs: Sequence[tuple[Build, Build]]
    vms: Sequence[Definition]
    machines: Sequence[str] = ()
    devices: Sequence[DeviceProfile | None] = (None,)
    transports: Sequence[str] = ("unix",)
    capabilities: Sequence[dict[str, bool]] = field(default_factory=lambda: ({},))
    accelerator: str = "tcg"
    deprecated: bool = True
    same_build: bool = False

    def __post_init__(self) -> None:
        _check_names("build", {id(b): b.name for pair in self.pairs for b in pair}.values())
        _check_names("VM definition", (vm.name for vm in self.vms))
        _check_names("device", (device_name(device) for device in self.devices))
        _check_names("capability set", (capabilities_name(c) for c in self.capabilities))
        _check_names("transport", self.transports)
        for name in self.transports:
            transport.make(name).close()

    @property
    def builds(self) -> list[Build]:
        """All builds of the pairs, each once."""
        return list({b.name: b for pair in self.pairs for b in pair}.values())

    def machine_names(self) -> list[str]:
        """The machine types that were asked for by name or pattern, from old to new.

        Raises InputError for one that no build has.
        """
        known = {m.name for build in self.builds for m in build.facts.machines}
        found: set[str] = set()
        for wanted in self.machine_patterns():
            if wanted in self.families():
                continue
            matched = {name for name in known if fnmatchcase(name, wanted)}
            if not matched:
                near = difflib.get_close_matches(wanted, known, 3)
                hint = f"; near it are {', '.join(near)}" if near else ""
                names = ", ".join(build.name for build in self.builds)
                raise InputError(f"no machine type of {names} matches '{wanted}'{hint}")
            found |= matched
        return sorted(found, key=version_order)

    def machine_patterns(self) -> Sequence[str]:
        """`machines`, or the usual families' versioned types if none was asked for."""
        if self.machines:
            return self.machines
        prefixes = [
            prefix
            for family, prefix in {**FAMILIES, "virt": "virt-"}.items()
            if any(build.facts.versions_of(family) for build in self.builds)
        ]
        return [f"{prefix}*" for prefix in prefixes]

    def families(self) -> list[str]:
        """The families that were asked for: aliases, which mean another type in each build."""
        aliases = {m.alias for b in self.builds for m in b.facts.machines if m.alias}
        return [name for name in self.machines if name in aliases | FAMILIES.keys()]


def all_pairs(builds: Sequence[Build]) -> list[tuple[Build, Build]]:
    """Each build with each, in both directions and with itself."""
    return [(source, destination) for source in builds for destination in builds]


def device_name(profile: DeviceProfile | None) -> str:
    """An axis value's name."""
    return profile.name if profile else NONE


def capabilities_name(capabilities: dict[str, bool]) -> str:
    """`multifd+return-path`; one that is switched off is `return-path.off`; `none`."""
    names = (name if on else f"{name}.off" for name, on in sorted(capabilities.items()))
    return "+".join(names) or NONE


def parse_capabilities(text: str) -> dict[str, bool]:
    """A set from `multifd+return-path=off`, or `none`; raises InputError."""
    if text in ("", NONE):
        return {}
    return dict(settings.parse_capability(word) for word in text.split("+"))


def _check_names(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(
                f"two different {what}s are called '{name}': cells would have the same name"
                + ("; `qmptests builds add --name` gives one another" if what == "build" else "")
            )
        seen.add(name)
