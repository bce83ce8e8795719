"""What is run: smoke is in pairwise, pairwise is in full, and no possible pair is left out."""

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qmptests.builds import Build, Machine
from qmptests.errors import InputError
from qmptests.matrix import expression, store
from qmptests.matrix.axes import Axes, all_pairs
from qmptests.matrix.cells import Cell, cells
from qmptests.matrix.expression import AXES
from qmptests.matrix.selection import TIERS, pairwise, select, smoke
from qmptests.vm import devices
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile
from tests.matrix import synthetic

OTHER_AXES = ("vm", "device", "transport", "capabilities")
VM = Definition(name="dirtier")
Q35 = (Machine("pc-q35-9.2"), Machine("pc-q35-10.0", alias="q35"))
I440FX = (Machine("pc-i440fx-2.12"), Machine("pc-i440fx-10.0", alias="pc"))

Pair = tuple[tuple[str, str], tuple[str, str]]


def live(made: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in made if not cell.pruned]


def pairs_in(found: Iterable[Cell]) -> set[Pair]:
    """Each two values of two axes that occur together."""
    return {two for cell in found for two in itertools.combinations(cell.coordinates.items(), 2)}


def chosen(made: Sequence[Cell], tier: str, *texts: str) -> list[str]:
    """Ids of what is selected."""
    found = select(made, tier, [expression.parse(text) for text in texts])
    return [cell.id for cell in found if cell.selected]


def family_of(machine: str) -> tuple[str, tuple[int, ...]]:
    family, _, version = machine.rpartition("-")
    if not re.fullmatch(r"[\d.]+", version):
        return machine, ()
    return family, tuple(int(part) for part in version.split("."))


@pytest.fixture(scope="module")
def real_cells(real_builds: list[Build]) -> list[Cell]:
    """All machine types and all devices, with something on the other axes that not all take."""
    return cells(
        Axes(
            pairs=all_pairs(real_builds),
            vms=[VM],
            devices=[None, *map(devices.load, devices.shipped())],
            transports=["unix", "fd"],
            capabilities=[{}, {"multifd": True}, {"switchover-ack": True}],
        )
    )


#: Matrices in which something can exist, small enough to look at each pair.
MATRICES = synthetic.axes().map(cells).filter(lambda made: 0 < len(live(made)) < 200)


@given(MATRICES)
@settings(max_examples=12)
def test_each_tier_holds_the_one_before_it_and_nothing_that_cannot_exist(made: list[Cell]) -> None:
    of_tier = {tier: set(chosen(made, tier)) for tier in TIERS}
    assert of_tier["smoke"] <= of_tier["pairwise"] <= of_tier["full"]
    assert of_tier["full"] == {cell.id for cell in live(made)}


@given(MATRICES, st.sampled_from(TIERS))
@settings(max_examples=12)
def test_selecting_marks_cells_and_changes_nothing_else(made: list[Cell], tier: str) -> None:
    found = select(made, tier)
    members = {name: set(chosen(made, name)) for name in ("smoke", tier, "full")}
    for before, after in zip(made, found, strict=True):
        for field in ("id", "coordinates", "reason", "detail"):
            assert getattr(before, field) == getattr(after, field)
        assert after.selected is (after.id in members[tier])
        assert after.tiers == [name for name in TIERS if after.id in members.get(name, ())]


@given(MATRICES)
@settings(max_examples=20)
def test_smoke_has_each_pair_and_family_once_with_ordinary_values(made: list[Cell]) -> None:
    """On the newest type; each other axis has its first value unless the pair can't have it."""
    first = [made[0].coordinates[axis] for axis in OTHER_AXES]
    selected = smoke(live(made))
    by_family: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in live(made):
        where = cell.coordinates
        key = where["source"], where["destination"], family_of(where["machine"])[0]
        by_family.setdefault(key, []).append(cell)
    for key, possible in by_family.items():
        newest = max(family_of(cell.coordinates["machine"])[1] for cell in possible)
        run = [cell for cell in possible if cell.id in selected]
        assert newest in [family_of(cell.coordinates["machine"])[1] for cell in run], key

        def is_ordinary(cell: Cell) -> bool:
            return [cell.coordinates[axis] for axis in OTHER_AXES] == first

        if any(is_ordinary(cell) for cell in possible):
            ordinary = [cell for cell in run if is_ordinary(cell)]
            assert [family_of(c.coordinates["machine"])[1] for c in ordinary] == [newest], key


@given(MATRICES)
@settings(max_examples=12)
def test_smoke_has_each_value_that_some_cell_has(made: list[Cell]) -> None:
    selected = smoke(live(made))
    run = [cell for cell in made if cell.id in selected]
    for axis in OTHER_AXES:
        assert {c.coordinates[axis] for c in run} == {c.coordinates[axis] for c in live(made)}


@pytest.mark.parametrize(
    ("more", "suffix"),
    [
        ({"vms": [VM, Definition(name="none")]}, "-v.none"),
        ({"devices": [None, synthetic.PROFILES[0]]}, "-x.nvme"),
        ({"transports": ["unix", "tcp"]}, "-t.tcp"),
        ({"capabilities": [{}, {"multifd": True}]}, "-c.multifd"),
    ],
    ids=OTHER_AXES,
)
def test_smoke_has_a_further_value_once(more: dict[str, object], suffix: str) -> None:
    found = chosen(small(**more), "smoke")
    assert [cell for cell in found if cell.endswith(suffix)] == [f"sb-da-m.q35-10.0{suffix}"]


def test_smoke_is_short() -> None:
    """Two families, two directions, and a cell for each further value, together where they can."""
    a, b = (synthetic.build(name, *Q35, *I440FX) for name in "ab")
    made = cells(
        Axes(
            pairs=all_pairs([a, b]),
            vms=[VM],
            devices=[None, *synthetic.PROFILES],
            transports=["unix", "tcp"],
        )
    )
    found = chosen(made, "smoke")
    ordinary = {f"s{s}-d{d}-m.{m}-10.0" for s, d in ("ab", "ba") for m in ("q35", "i440fx")}
    assert ordinary < set(found)
    assert len(found) == len(ordinary) + 3


def test_smoke_does_not_leave_out_a_pair_that_lacks_an_ordinary_value() -> None:
    a = synthetic.build("a", *Q35)
    b = synthetic.build("b", *Q35)
    c = synthetic.build("c", *Q35, devices=frozenset())
    nvme = synthetic.PROFILES[0]
    made = cells(Axes(pairs=all_pairs([c, a, b]), vms=[VM], devices=[nvme, None]))
    found = chosen(made, "smoke")
    assert sorted(found) == [
        "sa-db-m.q35-10.0-x.nvme",
        "sa-dc-m.q35-10.0",
        "sb-da-m.q35-10.0-x.nvme",
        "sb-dc-m.q35-10.0",
        "sc-da-m.q35-10.0",
        "sc-db-m.q35-10.0",
    ]


@given(MATRICES)
@settings(max_examples=20)
def test_pairwise_has_each_two_values_that_some_cell_has(made: list[Cell]) -> None:
    selected = pairwise(live(made))
    assert pairs_in(cell for cell in made if cell.id in selected) == pairs_in(live(made))


def rows(values: int) -> st.SearchStrategy[set[tuple[int, ...]]]:
    """Any choice of points at all: no rule of ours is behind it."""
    points = st.tuples(*(st.integers(0, values) for _ in AXES))
    return st.sets(points, min_size=1, max_size=40)


@given(rows(1) | rows(3))
@settings(max_examples=60)
def test_pairwise_takes_any_constraints(points: set[tuple[int, ...]]) -> None:
    made = [
        Cell(id=str(point), coordinates=dict(zip(AXES, map(str, point), strict=True)))
        for point in sorted(points)
    ]
    selected = pairwise(made)
    assert selected <= {cell.id for cell in made}
    assert pairs_in(cell for cell in made if cell.id in selected) == pairs_in(made)


def test_pairwise_of_nothing_is_nothing() -> None:
    assert pairwise([]) == set()
    assert smoke([]) == set()


def test_multifd_is_paired_with_all_but_the_transport_that_cannot_have_it() -> None:
    builds = [synthetic.build(name, *Q35, *I440FX) for name in ("a", "b")]
    builds.append(synthetic.build("c", *Q35, devices=frozenset({"nvme"})))
    made = cells(
        Axes(
            pairs=all_pairs(builds),
            vms=[VM, Definition(name="none")],
            devices=[None, *synthetic.PROFILES],
            transports=["unix", "tcp", "fd"],
            capabilities=[{}, {"multifd": True}, {"return-path": True}],
        )
    )
    run = [cell for cell in select(made, "pairwise") if cell.selected]
    found = pairs_in(run)
    assert (("transport", "tcp"), ("capabilities", "multifd")) in found
    assert (("transport", "fd"), ("capabilities", "return-path")) in found
    assert (("transport", "fd"), ("capabilities", "multifd")) not in found
    assert (("source", "c"), ("device", "nvme")) in found
    assert (("source", "c"), ("device", "scsi")) not in found
    assert found == pairs_in(live(made))
    assert len(run) < len(live(made)) / 10


def test_pairwise_of_the_real_builds_is_whole_and_small(real_cells: list[Cell]) -> None:
    """All machine types of 7.2, 10.0 and 11.1 with all devices: about one cell in a hundred."""
    possible = live(real_cells)
    run = [cell for cell in select(real_cells, "pairwise") if cell.selected]
    assert pairs_in(run) == pairs_in(possible)
    most = Counter(axis for axis, _ in {item for c in possible for item in c.coordinates.items()})
    (_, machines), (_, profiles) = most.most_common(2)
    assert machines * profiles * 0.9 < len(run) < machines * profiles * 1.5


def test_smoke_of_the_real_builds_has_both_families_of_each_pair(real_cells: list[Cell]) -> None:
    run = [cell.coordinates for cell in select(real_cells, "smoke") if cell.selected]
    families = Counter((at["source"], at["destination"]) for at in run)
    assert len(families) == 12
    assert min(families.values()) == 2
    assert len(run) < 24 + len(devices.shipped()) + 5, "pairs by family, and other values"
    newest = {
        at["machine"] for at in run if {at["source"], at["destination"]} == {"7.2.22", "11.1.3"}
    }
    assert newest == {"pc-q35-7.2", "pc-i440fx-7.2"}


SCRIPT = """
import sys
from pathlib import Path
from qmptests.matrix import store
from qmptests.matrix.axes import Axes, all_pairs
from qmptests.matrix.cells import cells
from qmptests.matrix.selection import select
from qmptests.vm import definition, devices

folder, out = map(Path, sys.argv[1:])
builds = list(store.read_builds(folder).values())
axes = Axes(
    pairs=all_pairs(builds),
    vms=[definition.load("dirtier"), definition.load("none")],
    machines=["pc-q35-*"],
    devices=[None, devices.load("virtio-net"), devices.load("e1000e")],
    transports=["tcp", "fd"],
    capabilities=[{}, {"multifd": True}],
)
out.mkdir()
store.write(out, store.make(axes, select(cells(axes), "pairwise"), "pairwise", []), builds)
"""


def test_the_same_is_selected_every_night(real_builds: list[Build], tmp_path: Path) -> None:
    """In other processes, in which sets and dictionaries have another order."""
    matrix = store.Matrix(
        select="full", accelerator="tcg", builds={}, vms={}, devices={}, capabilities={}, cells=[]
    )
    store.write(tmp_path, matrix, real_builds)
    nights = [tmp_path / seed for seed in ("1", "2")]
    for night in nights:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path, night],
            env={**os.environ, "PYTHONHASHSEED": night.name},
            check=True,
        )
    first, second = nights
    assert (first / "cells.json").read_bytes() == (second / "cells.json").read_bytes()
    assert (first / "builds.json").read_bytes() == (second / "builds.json").read_bytes()
    assert len(store.read(first).selected) > 50


def small(**more: object) -> list[Cell]:
    """Two builds with two families; `c` can't go anywhere."""
    builds = [synthetic.build(name, *Q35, *I440FX) for name in ("a", "b")]
    builds.append(synthetic.build("c", Machine("pc-q35-2.4"), target="aarch64"))
    return cells(Axes(**{"pairs": all_pairs(builds), "vms": [VM], **more}))  # type: ignore[arg-type]


def test_an_expression_narrows_what_the_tier_has() -> None:
    made = small(devices=[None, DeviceProfile(name="nvme", devices=["nvme"])])
    assert chosen(made, "smoke", "source=a,machine=q35*,device=none") == ["sa-db-m.q35-10.0"]
    everything = chosen(made, "full", "source=a", "machine=*-9.2")
    assert everything == [
        cell.id
        for cell in live(made)
        if cell.coordinates["source"] == "a" or cell.coordinates["machine"].endswith("-9.2")
    ]


@given(MATRICES, st.sampled_from(TIERS), st.data())
@settings(max_examples=12)
def test_expressions_take_from_a_tier_and_never_add(
    made: list[Cell], tier: str, data: st.DataObject
) -> None:
    axis = data.draw(st.sampled_from(AXES))
    value = data.draw(st.sampled_from(sorted({cell.coordinates[axis] for cell in made})))
    whole = set(chosen(made, tier))
    expected = [c.id for c in made if c.id in whole and c.coordinates[axis] != value]
    assume(expected)
    assert chosen(made, tier, f"{axis}!={value}") == expected


@pytest.mark.parametrize("tier", TIERS)
def test_an_expression_that_selects_nothing_is_bad_input(tier: str) -> None:
    made = small()
    size = len(chosen(made, tier))
    with pytest.raises(InputError) as it:
        chosen(made, tier, "source=a,destination=a", "machine=virt*")
    assert str(it.value) == (
        f"'source=a,destination=a' or 'machine=virt*' selects none of the {size} cells of '{tier}'"
    )


@pytest.mark.parametrize("tier", TIERS)
def test_a_matrix_without_a_live_cell_is_bad_input_that_counts_the_reasons(tier: str) -> None:
    made = small(machines=["pc-q35-9.2", "pc-q35-2.4"], accelerator="tcg")
    dead = [cell for cell in made if cell.pruned]
    with pytest.raises(InputError) as it:
        select(dead, tier, [expression.parse("source=a")])
    assert str(it.value) == (
        "the matrix has no cell that can exist: 6 same-build, 2 machine-lacking, "
        "8 architecture-differs"
    )


def test_a_matrix_without_any_cell_is_bad_input() -> None:
    with pytest.raises(InputError, match="no cell that can exist: no pair of builds"):
        select([], "full")


def test_an_unknown_tier_is_bad_input() -> None:
    with pytest.raises(InputError, match="'some': there are smoke, pairwise, full"):
        select(small(), "some")
