"""Cells: each point of a matrix, and for those that can't exist the reason."""

import itertools
import re
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from qmptests.builds import Build, is_same_binary, newest_common_machine
from qmptests.errors import InputError
from qmptests.matrix.axes import NONE, Axes, capabilities_name, device_name
from qmptests.migration import settings, transport
from qmptests.vm.devices import DeviceProfile, lacks


class Reason(StrEnum):
    """Why a cell can't exist."""

    SAME_BUILD = "same-build"
    SAME_BINARY = "same-binary"
    ARCHITECTURE_DIFFERS = "architecture-differs"
    ACCELERATOR_LACKING = "accelerator-lacking"
    MACHINE_LACKING = "machine-lacking"
    MACHINE_DEPRECATED = "machine-deprecated"
    NO_COMMON_MACHINE = "no-common-machine"
    DEVICE_LACKING = "device-lacking"
    CAPABILITY_LACKING = "capability-lacking"
    TRANSPORT_WITHOUT_MULTIFD = "transport-without-multifd"


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One point: `coordinates` by axis, and an `id` that is made of them.

    `reason` (a code) and `detail` (in words, which side lacks what) are there if it can't exist.
    `tiers`: the selections that it belongs to. `selected`: it is run.
    """

    id: str
    coordinates: dict[str, str]
    tiers: list[str] = []
    selected: bool = False
    reason: str = ""
    detail: str = ""

    @property
    def pruned(self) -> bool:
        """Whether it can't exist."""
        return bool(self.reason)


#: Axis -> its prefix in ids. Those below the line are left out where they are ordinary.
_ALWAYS = {"source": "s", "destination": "d", "machine": "m."}
_OTHERWISE = {"vm": "v.", "device": "x.", "transport": "t.", "capabilities": "c."}
ORDINARY = {"vm": "dirtier", "device": NONE, "transport": "unix", "capabilities": NONE}


def cell_id(coordinates: dict[str, str]) -> str:
    """`s10.0.13-d11.1.3-m.q35-10.0`, then what is not ordinary: `-v.none-x.nvme-t.tcp-c.multifd`.

    Only characters that pytest's `-k` takes, and the same whatever else is in the matrix.
    """
    parts = [prefix + coordinates[axis] for axis, prefix in _ALWAYS.items()]
    parts[2] = _ALWAYS["machine"] + coordinates["machine"].removeprefix("pc-")
    parts += [
        prefix + coordinates[axis]
        for axis, prefix in _OTHERWISE.items()
        if coordinates[axis] != ORDINARY[axis]
    ]
    return re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))


def cells(axes: Axes) -> list[Cell]:
    """All of them, in the order of the axes, pruned ones included."""
    return list(_cells(axes))


def _cells(axes: Axes) -> Iterator[Cell]:
    names = axes.machine_names()
    ways = {name: _takes_multifd(name) for name in axes.transports}
    others = list(itertools.product(axes.vms, axes.devices, axes.transports, axes.capabilities))
    alone = len(axes.builds) == 1 or axes.same_build
    seen: dict[str, dict[str, str]] = {}
    for source, destination in axes.pairs:
        pair = (source, destination)
        why_pair = _why_pair(axes, *pair, alone=alone)
        lacking_device = {device_name(d): _why_device(pair, d) for d in axes.devices}
        lacking_capability = {
            capabilities_name(c): _why_capabilities(pair, c) for c in axes.capabilities
        }
        for machine, why_machine in _machines(axes, pair, names):
            for vm, device, way, capabilities in others:
                coordinates = {
                    "source": source.name,
                    "destination": destination.name,
                    "machine": machine,
                    "vm": vm.name,
                    "device": device_name(device),
                    "transport": way,
                    "capabilities": capabilities_name(capabilities),
                }
                identity = cell_id(coordinates)
                if seen.setdefault(identity, coordinates) is not coordinates:
                    if seen[identity] != coordinates:
                        ours, theirs = _differing(coordinates, seen[identity])
                        raise InputError(
                            f"two cells would be called {identity}: {theirs} and {ours}: rename one"
                        )
                    continue  # a family's newest type was asked for by name as well
                reason, detail = (
                    why_pair
                    or why_machine
                    or lacking_device[coordinates["device"]]
                    or lacking_capability[coordinates["capabilities"]]
                    or _why_way(way, ways[way], capabilities)
                    or ("", "")
                )
                yield Cell(id=identity, coordinates=coordinates, reason=reason, detail=detail)


def _differing(a: dict[str, str], b: dict[str, str]) -> tuple[str, str]:
    """What of each the other has not."""
    ours, theirs = (
        ",".join(f"{axis}={name}" for axis, name in these.items() if those[axis] != name)
        for these, those in ((a, b), (b, a))
    )
    return ours, theirs


Why = tuple[Reason, str] | None


def _why_pair(axes: Axes, source: Build, destination: Build, *, alone: bool) -> Why:
    if source.name == destination.name and not alone:
        return Reason.SAME_BUILD, "a pair is of two builds unless there is only one"
    two_names = source.name != destination.name and not axes.same_build
    if two_names and is_same_binary(source, destination):
        return (
            Reason.SAME_BINARY,
            f"{source.name} and {destination.name} are the same binary under two names",
        )
    if source.facts.target != destination.facts.target:
        return (
            Reason.ARCHITECTURE_DIFFERS,
            f"{source.name} is {source.facts.target}, {destination.name} "
            f"{destination.facts.target}",
        )
    accelerator = axes.accelerator.partition(",")[0]
    for build in (source, destination):
        if accelerator not in build.facts.accelerators:
            return Reason.ACCELERATOR_LACKING, f"{build.name} has no '{accelerator}'"
    return None


def _machines(axes: Axes, pair: tuple[Build, Build], names: list[str]) -> Iterator[tuple[str, Why]]:
    for name in names:
        yield name, _why_machine(axes, pair, name)
    for family in axes.families():
        try:
            newest = newest_common_machine(*pair, family)
        except InputError as error:
            yield family, (Reason.NO_COMMON_MACHINE, str(error))
        else:
            yield newest, _why_machine(axes, pair, newest)


def _why_machine(axes: Axes, pair: tuple[Build, Build], name: str) -> Why:
    # By its full name: what is an alias in one build may be a type of its own in the other.
    lacking = [b.name for b in pair if all(m.name != name for m in b.facts.machines)]
    if lacking:
        return Reason.MACHINE_LACKING, f"{' and '.join(dict.fromkeys(lacking))} has no {name}"
    if not axes.deprecated:
        for build in pair:
            if build.facts.machine(name).deprecated:
                return Reason.MACHINE_DEPRECATED, f"{name} is deprecated in {build.name}"
    return None


def _why_device(pair: tuple[Build, Build], device: DeviceProfile | None) -> Why:
    for build in pair:
        if device and (lacking := lacks(build, device)):
            return Reason.DEVICE_LACKING, f"{build.name} has {lacking}"
    return None


def _why_capabilities(pair: tuple[Build, Build], capabilities: dict[str, bool]) -> Why:
    for build, is_source in zip(pair, (True, False), strict=True):
        for name in settings.capabilities_for(capabilities, source=is_source):
            if not build.facts.has_capability(name):
                return Reason.CAPABILITY_LACKING, f"{build.name} has no capability {name}"
    return None


def _takes_multifd(name: str) -> bool:
    way = transport.make(name)
    way.close()
    return way.multifd


def _why_way(name: str, multifd: bool, capabilities: dict[str, bool]) -> Why:
    if capabilities.get("multifd") and not multifd:
        return Reason.TRANSPORT_WITHOUT_MULTIFD, f"'{name}' can't give multifd its channels"
    return None
