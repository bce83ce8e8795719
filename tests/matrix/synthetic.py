"""Builds and axes made up by hypothesis: pure data, as probing might have found it."""

from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from qmptests.builds import Build, Facts, Machine
from qmptests.matrix.axes import Axes, all_pairs
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile

T = TypeVar("T")

#: No name is part of another, so a sentence that has one means that build.
NAMES = ("7.2.22", "10.0.2", "10.0.13", "11.1.3")
#: Versioned types of a family: their prefix, and the alias of the newest.
FAMILIES = {"pc-q35-": "q35", "pc-i440fx-": "pc", "virt-": "virt"}
VERSIONS = ("2.4", "4.0", "4.0.1", "5.2", "9.2", "10.0", "11.1")
DRIVERS = ("nvme", "virtio-net-pci", "virtio-scsi-pci", "scsi-hd")
PROFILES = (
    DeviceProfile(name="nvme", devices=["nvme,serial=1"]),
    DeviceProfile(name="virtio-net", devices=["virtio-net-pci"]),
    DeviceProfile(name="scsi", devices=["virtio-scsi-pci,id=scsi{n}", "scsi-hd,bus=scsi{n}.0"]),
)
#: Of the last two one acts on the source only, and one on the destination only.
CAPABILITIES = ("multifd", "return-path", "switchover-ack", "zero-copy-send", "postcopy-blocktime")


def build(
    name: str,
    *machines: Machine,
    devices: frozenset[str] = frozenset(DRIVERS),
    capabilities: frozenset[str] = frozenset({"events", *CAPABILITIES}),
    target: str = "x86_64",
    accelerators: tuple[str, ...] = ("tcg",),
) -> Build:
    """A build with these facts; it can't be launched."""
    nothing: frozenset[str] = frozenset()
    facts = Facts(
        version=(10, 0, 2),
        version_text=name,
        target=target,
        machines=list(machines),
        devices=devices,
        capabilities=capabilities,
        parameters=nothing,
        commands=nothing,
        events=nothing,
        trace_events=nothing,
        trace_backends=["log"],
        accelerators=list(accelerators),
    )
    return Build(name, f"/{name}", Path(f"/{name}"), (f"/{name}",), {}, {}, name, facts)


@st.composite
def machines(draw: st.DrawFn) -> list[Machine]:
    """Of each family some neighbouring versions; as in QEMU the newest has the alias, and old ones
    may be deprecated."""
    found = [Machine("none")]
    for prefix, alias in FAMILIES.items():
        first = draw(st.integers(0, len(VERSIONS)))
        versions = VERSIONS[first : first + draw(st.integers(0, 4))]
        deprecated = draw(st.integers(0, 2))
        for number, version in enumerate(versions):
            newest = version == versions[-1]
            found.append(
                Machine(
                    f"{prefix}{version}",
                    alias=alias if newest else None,
                    deprecated=number < deprecated and not newest,
                )
            )
    return found[:: draw(st.sampled_from((1, -1)))]


#: Most builds have most things: a matrix in which nothing can exist teaches little.
MOST = st.integers(0, 5).map(bool)


@st.composite
def builds(draw: st.DrawFn, name: str) -> Build:
    """What a QEMU of that name might be."""
    return build(
        name,
        *draw(machines()),
        devices=frozenset(DRIVERS) - draw(st.sets(st.sampled_from(DRIVERS), max_size=2)),
        capabilities=frozenset(CAPABILITIES)
        - draw(st.sets(st.sampled_from(CAPABILITIES), max_size=2))
        | ({"events"} if draw(MOST) else set()),
        target="x86_64" if draw(MOST) else "aarch64",
        accelerators=("tcg", "kvm") if draw(MOST) else ("kvm",),
    )


def some(values: tuple[T, ...], at_most: int = 3) -> st.SearchStrategy[list[T]]:
    """One or more of `values`, in any order, each once."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=at_most, unique_by=str)


def _items(values: dict[str, bool]) -> tuple[tuple[str, bool], ...]:
    return tuple(sorted(values.items()))


@st.composite
def axes(draw: st.DrawFn) -> Axes:
    """Any matrix that can be asked for: it has a machine type at least, not always a live cell."""
    ours = [draw(builds(name)) for name in draw(some(NAMES))]
    every = all_pairs(ours)
    pairs = draw(st.one_of(st.just(every), st.lists(st.sampled_from(every), min_size=1)))
    types = [machine for pair in pairs for b in pair for machine in b.facts.machines]
    known = {m.name for m in types} | {m.alias for m in types if m.alias}
    words = [*sorted(known), "q35", "pc", "no*"]
    sets = st.dictionaries(st.sampled_from(CAPABILITIES), st.booleans(), max_size=2)
    return Axes(
        pairs=pairs,
        vms=[Definition(name=name) for name in draw(some(("dirtier", "none"), 2))],
        machines=draw(st.one_of(st.just([]), st.lists(st.sampled_from(words), unique=True))),
        devices=draw(some((None, *PROFILES))),
        transports=draw(some(("unix", "tcp", "fd"))),
        capabilities=draw(st.lists(sets, min_size=1, max_size=3, unique_by=_items)),
        accelerator=draw(st.sampled_from(("tcg", "kvm", "tcg,thread=single"))),
        deprecated=draw(st.booleans()),
    )
