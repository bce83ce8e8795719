"""Cells: every point of a matrix is there, and one that can't exist says why."""

import itertools
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression, Scanner, TokenType
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from qmptests.builds import Build, Machine
from qmptests.builds.locate import digest_of
from qmptests.errors import InputError
from qmptests.matrix.axes import Axes, all_pairs, capabilities_name, parse_capabilities
from qmptests.matrix.cells import Cell, Reason, cell_id, cells
from qmptests.matrix.expression import AXES
from qmptests.matrix.selection import select
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile
from tests.matrix import synthetic

VM = Definition(name="dirtier")
Q35_9 = Machine("pc-q35-9.2")
Q35_10 = Machine("pc-q35-10.0", alias="q35")
Q35_11 = Machine("pc-q35-11.1", alias="q35")
PREFIXES = {"q35": "pc-q35-", "pc": "pc-i440fx-", "virt": "virt-"}

Coordinates = tuple[str, ...]


def at(cell: Cell) -> Coordinates:
    return tuple(cell.coordinates[axis] for axis in AXES)


def version_of(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.rpartition("-")[2].split("."))


def newest_common(source: Build, destination: Build, family: str) -> str | None:
    names = {m.name for m in source.facts.machines} & {m.name for m in destination.facts.machines}
    of_family = [name for name in names if name.startswith(PREFIXES[family])]
    return max(of_family, key=version_of, default=None)


class Model:
    """What the matrix's rules say, put plainly: one question for each rule."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.builds = {b.name: b for pair in axes.pairs for b in pair}
        self.types = {m.name for b in self.builds.values() for m in b.facts.machines}
        self.aliases = {m.alias for b in self.builds.values() for m in b.facts.machines if m.alias}
        self.devices = {d.name if d else "none": d for d in axes.devices}
        self.capabilities = {capabilities_name(c): c for c in axes.capabilities}

    def machines(self, source: Build, destination: Build) -> Iterator[str]:
        asked = list(self.axes.machines) or ["pc-q35-*", "pc-i440fx-*", "virt-*"]
        for word in asked:
            if word in {"q35", "pc"} | self.aliases:
                yield newest_common(source, destination, word) or word
            else:
                yield from (name for name in self.types if fnmatchcase(name, word))

    def points(self) -> set[Coordinates]:
        """Every combination of the axes' values."""
        names = [v.name for v in self.axes.vms], self.devices, self.axes.transports
        return {
            (source.name, destination.name, machine, *others)
            for source, destination in self.axes.pairs
            for machine in self.machines(source, destination)
            for others in itertools.product(*names, self.capabilities)
        }

    def lacking(self, point: Coordinates) -> dict[Reason, set[str]]:
        """Each rule that forbids the point, with the builds that are to blame."""
        source, destination, machine, _, device, transport, capabilities = point
        wanted = self.capabilities[capabilities]
        profile = self.devices[device]
        found: dict[Reason, set[str]] = {}

        def blame(reason: Reason, name: str) -> None:
            found.setdefault(reason, set()).add(name)

        if source == destination and len(self.builds) > 1:
            blame(Reason.SAME_BUILD, source)
        if self.builds[source].facts.target != self.builds[destination].facts.target:
            found[Reason.ARCHITECTURE_DIFFERS] = {source, destination}
        if machine in {"q35", "pc"} | self.aliases:  # no type was found for it
            found[Reason.NO_COMMON_MACHINE] = {source, destination}
        for side, name in (("source", source), ("destination", destination)):
            facts = self.builds[name].facts
            types = {m.name: m for m in facts.machines}
            if self.axes.accelerator.split(",")[0] not in facts.accelerators:
                blame(Reason.ACCELERATOR_LACKING, name)
            if machine not in types and Reason.NO_COMMON_MACHINE not in found:
                blame(Reason.MACHINE_LACKING, name)
            if machine in types and types[machine].deprecated and not self.axes.deprecated:
                blame(Reason.MACHINE_DEPRECATED, name)
            if profile and any(d.split(",")[0] not in facts.devices for d in profile.devices):
                blame(Reason.DEVICE_LACKING, name)
            ineffective = "postcopy-blocktime" if side == "source" else "zero-copy-send"
            needed = {"events", *wanted} - {ineffective}
            if not needed <= facts.capabilities:
                blame(Reason.CAPABILITY_LACKING, name)
        if wanted.get("multifd") and transport == "fd":
            found[Reason.TRANSPORT_WITHOUT_MULTIFD] = set()
        return found


def two(source: Build, destination: Build, **more: object) -> list[Cell]:
    """The cells of one pair, with one VM."""
    return cells(Axes(pairs=[(source, destination)], vms=[VM], **more))  # type: ignore[arg-type]


@given(synthetic.axes())
@settings(max_examples=50)
def test_every_combination_of_values_is_a_cell_once(axes: Axes) -> None:
    made = cells(axes)
    assert len({at(cell) for cell in made}) == len(made)
    assert {at(cell) for cell in made} == Model(axes).points()
    assert all(tuple(cell.coordinates) == AXES for cell in made)


@given(synthetic.axes())
@settings(max_examples=50)
def test_a_cell_is_live_exactly_if_no_rule_forbids_it(axes: Axes) -> None:
    model = Model(axes)
    for cell in cells(axes):
        forbidding = model.lacking(at(cell))
        assert cell.pruned is bool(forbidding), (cell, forbidding)
        assert not cell.reason or Reason(cell.reason) in forbidding


@given(synthetic.axes())
@settings(max_examples=50)
def test_the_detail_of_a_pruned_cell_names_who_lacks_something_and_nobody_else(axes: Axes) -> None:
    model = Model(axes)
    for cell in cells(axes):
        assert bool(cell.detail) is cell.pruned
        if not cell.pruned or cell.reason == Reason.SAME_BUILD:
            continue
        guilty = model.lacking(at(cell))[Reason(cell.reason)]
        words = re.findall(r"[\w.]+", cell.detail.replace("(", " "))
        named = {name for name in model.builds if name in words}
        assert named <= guilty, cell
        assert named or not guilty, cell
        assert "\n" not in cell.detail


@pytest.mark.parametrize(
    ("more", "reason", "detail"),
    [
        ({"machines": ["pc-q35-11.1"]}, "machine-lacking", "old has no pc-q35-11.1"),
        ({"machines": ["pc-q35-9.2"]}, "machine-lacking", "new has no pc-q35-9.2"),
        ({"accelerator": "kvm"}, "accelerator-lacking", "new has no 'kvm'"),
        (
            {"machines": ["pc"]},
            "no-common-machine",
            "no versioned machine type of the family 'pc' is common to old (it has none) and "
            "new (it has none)",
        ),
        (
            {"devices": [DeviceProfile(name="nic", devices=["e1000,id=x", "igb"])]},
            "device-lacking",
            "old has no device 'igb'",
        ),
        (
            {"capabilities": [{"switchover-ack": True}]},
            "capability-lacking",
            "old has no capability switchover-ack",
        ),
        (
            {"transports": ["fd"], "capabilities": [{"multifd": True}]},
            "transport-without-multifd",
            "'fd' can't give multifd its channels",
        ),
    ],
)
def test_a_reason_is_a_code_and_a_sentence(
    more: dict[str, object], reason: str, detail: str
) -> None:
    old = synthetic.build(
        "old",
        Q35_9,
        Q35_10,
        devices=frozenset({"e1000"}),
        capabilities=frozenset({"events", "multifd"}),
        accelerators=("kvm", "tcg"),
    )
    new = synthetic.build("new", Machine("pc-q35-10.0"), Q35_11, devices=frozenset({"igb"}))
    found = two(old, new, **{"machines": ["q35"], **more})
    assert [(cell.reason, cell.detail) for cell in found] == [(reason, detail)]


def test_both_sides_are_named_where_both_lack_a_machine() -> None:
    third = synthetic.build("third", Q35_9)
    a, b = synthetic.build("a", Q35_10), synthetic.build("b", Q35_10)
    found = cells(Axes(pairs=all_pairs([a, b, third]), vms=[VM], machines=["pc-q35-9.2"]))
    details = {at(cell)[:2]: cell.detail for cell in found}
    assert details["a", "b"] == "a and b has no pc-q35-9.2"
    assert details["a", "third"] == "a has no pc-q35-9.2"


def test_another_architecture_is_no_destination() -> None:
    arm = synthetic.build("arm", Q35_10, target="aarch64")
    (cell,) = two(synthetic.build("pc", Q35_10), arm)
    assert (cell.reason, cell.detail) == (
        "architecture-differs",
        "pc is x86_64, arm aarch64",
    )


def test_a_build_goes_to_itself_only_if_it_is_alone() -> None:
    a, b = synthetic.build("a", Q35_10), synthetic.build("b", Q35_10)
    assert [c.reason for c in cells(Axes(pairs=all_pairs([a]), vms=[VM]))] == [""]
    found = cells(Axes(pairs=all_pairs([a, b]), vms=[VM]))
    assert [c.reason for c in found] == ["same-build", "", "", "same-build"]


def test_the_same_binary_under_two_names_is_no_pair(tmp_path: Path) -> None:
    """As a copy of the file, and as the content of a Debian package."""
    names = ("one", "copy", "packaged", "other")
    for name in names:
        (tmp_path / name).write_bytes(b"other" if name == "other" else b"qemu")
    made = [
        structs.replace(
            synthetic.build(name, Q35_10),
            binary=tmp_path / name,
            digest="tree" if name == "packaged" else digest_of(tmp_path / name),
            origin={"kind": "debian" if name == "packaged" else "binary"},
        )
        for name in names
    ]
    pairs = [(made[0], build) for build in made[1:]]
    found = cells(Axes(pairs=pairs, vms=[VM]))
    assert [c.reason for c in found] == ["same-binary", "same-binary", ""]
    assert found[1].detail == "one and packaged are the same binary under two names"
    assert not any(c.reason for c in cells(Axes(pairs=pairs, vms=[VM], same_build=True)))
    with pytest.raises(InputError, match=r"exist: 1 same-binary \(one and copy are"):
        select(cells(Axes(pairs=pairs[:1], vms=[VM])), "smoke")


def test_an_alias_on_one_side_is_not_a_type_of_that_name_on_the_other() -> None:
    riscv = synthetic.build("a", Machine("virt"))
    arm = synthetic.build("b", Machine("virt-10.0", alias="virt"))
    assert {(c.coordinates["machine"], c.detail) for c in two(riscv, arm, machines=["vir*"])} == {
        ("virt", "b has no virt"),
        ("virt-10.0", "a has no virt-10.0"),
    }


def test_a_family_means_the_newest_type_that_both_sides_of_a_pair_have() -> None:
    older = synthetic.build("older", Q35_9)
    old = synthetic.build("old", Q35_9, Q35_10)
    new = synthetic.build("new", Q35_9, Machine("pc-q35-10.0"), Q35_11)
    found = cells(Axes(pairs=all_pairs([older, old, new]), vms=[VM], machines=["q35"]))
    machines = {at(cell)[:2]: cell.coordinates["machine"] for cell in found if not cell.pruned}
    assert machines == {
        ("older", "old"): "pc-q35-9.2",
        ("old", "older"): "pc-q35-9.2",
        ("older", "new"): "pc-q35-9.2",
        ("new", "older"): "pc-q35-9.2",
        ("old", "new"): "pc-q35-10.0",
        ("new", "old"): "pc-q35-10.0",
    }


def test_a_type_asked_for_by_name_and_by_family_is_one_cell() -> None:
    a, b = synthetic.build("a", Q35_10), synthetic.build("b", Q35_10)
    assert len(two(a, b, machines=["q35", "pc-q35-10.0", "pc-q35-*"])) == 1


def test_without_a_wish_the_machines_are_all_versioned_types_from_old_to_new() -> None:
    unordered = (Q35_10, Machine("none"), Machine("microvm"), Q35_9, Machine("pc-i440fx-2.4"))
    a = synthetic.build("a", *unordered)
    found = [cell.coordinates["machine"] for cell in two(a, a)]
    assert found == ["pc-i440fx-2.4", "pc-q35-9.2", "pc-q35-10.0"]


def test_deprecated_types_are_there_unless_they_are_not_wanted() -> None:
    a = synthetic.build("a", Q35_9, Q35_10)
    b = synthetic.build("b", Machine("pc-q35-9.2", deprecated=True), Q35_10)
    assert [cell.reason for cell in two(a, b)] == ["", ""]
    found = two(a, b, deprecated=False)
    assert [(cell.reason, cell.detail) for cell in found] == [
        ("machine-deprecated", "pc-q35-9.2 is deprecated in b"),
        ("", ""),
    ]


def test_an_unknown_machine_is_bad_input_that_names_what_is_near() -> None:
    a, b = synthetic.build("a", Q35_9, Q35_10), synthetic.build("b", Q35_9)
    expected = r"^no machine type of a, b matches 'pc-q35-9\.9'; near it are .*pc-q35-9\.2"
    with pytest.raises(InputError, match=expected):
        two(a, b, machines=["pc-q35-10.0", "pc-q35-9.9"])
    with pytest.raises(InputError, match=r"^no machine type of a, b matches '\*#\*'$"):
        two(a, b, machines=["*#*"])


A, ANOTHER_A = synthetic.build("a", Q35_9), synthetic.build("a", Q35_10)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"pairs": [(A, ANOTHER_A)]}, "two different builds are called 'a': .*builds add --name"),
        ({"vms": [VM, VM]}, "two different VM definitions are called 'dirtier'"),
        (
            {"devices": [None, DeviceProfile(name="none", devices=["nvme"])]},
            "two different devices are called 'none'",
        ),
        (
            {"capabilities": [{"a": True, "b": False}, {"b": False, "a": True}]},
            r"two different capability sets are called 'a\+b.off'",
        ),
        ({"transports": ["tcp", "tcp"]}, "two different transports are called 'tcp'"),
        ({"transports": ["rdma"]}, "unknown transport 'rdma': there are unix, tcp, fd"),
    ],
)
def test_names_that_would_be_confused_are_bad_input(more: dict[str, object], error: str) -> None:
    with pytest.raises(InputError, match=f"^{error}"):
        Axes(**{"pairs": [(A, A)], "vms": [VM], **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "vms", "devices", "both"),
    [
        (["a", "b"], ["x=1", "x,1"], [None], ("vm=x=1", "vm=x,1")),
        (["a", "b"], ["x", "x-x.y"], [None, "y"], ("vm=x,device=y", "vm=x-x.y,device=none")),
        (
            ["1", "1-d1"],
            ["dirtier"],
            [None],
            ("source=1,destination=1-d1", "source=1-d1,destination=1"),
        ),
    ],
)
def test_names_that_make_the_same_id_are_bad_input(
    names: list[str], vms: list[str], devices: list[str | None], both: tuple[str, str]
) -> None:
    """A cell that another one hides would be lost without a word."""
    found = Axes(
        pairs=all_pairs([synthetic.build(name, Q35_10) for name in names]),
        vms=[Definition(name=name) for name in vms],
        devices=[d and DeviceProfile(name=d, devices=["nvme"]) for d in devices],  # type: ignore[misc]
    )
    with pytest.raises(InputError, match=r"^two cells would be called s\S+: .*: rename one$") as it:
        cells(found)
    assert all(f" {which}" in str(it.value) for which in both), it.value


def test_an_id_is_made_of_names_and_leaves_out_what_is_ordinary() -> None:
    ordinary = dict(
        zip(
            AXES,
            ("10.0.13", "11.1.3", "pc-q35-10.0", "dirtier", "none", "unix", "none"),
            strict=True,
        )
    )
    assert cell_id(ordinary) == "s10.0.13-d11.1.3-m.q35-10.0"
    other = {"vm": "none", "device": "nvme,x=1", "transport": "tcp", "capabilities": "a+b.off"}
    assert cell_id(ordinary | other) == (
        "s10.0.13-d11.1.3-m.q35-10.0-v.none-x.nvme_x_1-t.tcp-c.a+b.off"
    )


@given(synthetic.axes())
@settings(max_examples=30)
def test_ids_are_unique(axes: Axes) -> None:
    made = cells(axes)
    assert len({cell.id for cell in made}) == len(made)


@given(st.fixed_dictionaries(dict.fromkeys(AXES, st.text(min_size=1, max_size=8))))
def test_an_id_is_one_word_to_k_and_selects_itself(coordinates: dict[str, str]) -> None:
    """Whatever the names are: letters of all scripts, blanks, brackets, operators."""
    identity = cell_id(coordinates)
    words = [(token.type, token.value) for token in Scanner("").lex(identity)]
    assert words == [(TokenType.IDENT, identity), (TokenType.EOF, "")]

    def is_in_name(word: str, /, **_: object) -> bool:
        return word in f"test_it[{identity}]"

    assert Expression.compile(identity).evaluate(is_in_name)
    assert not Expression.compile(f"not {identity}").evaluate(is_in_name)


@given(synthetic.axes(), st.data())
@settings(max_examples=25)
def test_an_id_says_the_same_whatever_else_is_in_the_matrix(
    axes: Axes, data: st.DataObject
) -> None:
    made = cells(axes)
    assume(made)
    cell = data.draw(st.sampled_from(made))
    where = cell.coordinates
    by_name = {b.name: b for b in axes.builds}
    assume(where["machine"] in {m.name for b in by_name.values() for m in b.facts.machines})
    pair = by_name[where["source"]], by_name[where["destination"]]
    assume(any(m.name == where["machine"] for b in pair for m in b.facts.machines))
    alone = cells(
        Axes(
            pairs=[pair],
            vms=[vm for vm in axes.vms if vm.name == where["vm"]],
            machines=[where["machine"]],
            devices=[d for d in axes.devices if (d.name if d else "none") == where["device"]],
            transports=[where["transport"]],
            capabilities=[
                c for c in axes.capabilities if capabilities_name(c) == where["capabilities"]
            ],
        )
    )
    assert [(c.id, c.coordinates) for c in alone] == [(cell.id, where)]


@given(
    st.dictionaries(st.sampled_from(synthetic.CAPABILITIES), st.booleans()),
)
def test_a_capability_set_can_be_read_from_its_name(wanted: dict[str, bool]) -> None:
    text = "+".join(name if on else f"{name}=off" for name, on in wanted.items())
    assert parse_capabilities(text) == wanted
    assert capabilities_name(wanted) == (
        "+".join(sorted(name + ("" if on else ".off") for name, on in wanted.items())) or "none"
    )


def test_a_capability_is_on_or_off() -> None:
    assert parse_capabilities("none") == {}
    with pytest.raises(InputError, match="on or off, not '5'"):
        parse_capabilities("multifd+return-path=5")
