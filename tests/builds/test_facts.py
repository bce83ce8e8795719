"""Machine types and the questions that are asked about them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.builds import Build, Facts, Machine, newest_common_machine
from qmptests.builds.registry import propose_name, version_order
from qmptests.errors import InputError


def facts(*machines: Machine) -> Facts:
    nothing: frozenset[str] = frozenset()
    return Facts(
        version=(10, 0, 2),
        version_text="10.0.2 (Debian)",
        target="x86_64",
        machines=list(machines),
        devices=frozenset({"e1000"}),
        capabilities=frozenset({"multifd"}),
        parameters=frozenset({"downtime-limit"}),
        commands=nothing,
        events=nothing,
        trace_events=nothing,
        trace_backends=["log"],
        accelerators=["tcg"],
    )


def build(name: str, *machines: str) -> Build:
    found = facts(*(Machine(machine) for machine in machines))
    return Build(name, f"/{name}", Path(f"/{name}"), (f"/{name}",), {}, {}, name, found)


def test_an_alias_stands_for_its_machine_type() -> None:
    ours = facts(Machine("pc-q35-9.2"), Machine("pc-q35-10.0", alias="q35"))
    assert ours.resolve_machine("q35") == "pc-q35-10.0"
    assert ours.resolve_machine("pc-q35-9.2") == "pc-q35-9.2"
    assert ours.has_machine("q35")


def test_an_unknown_machine_type_is_bad_input_that_names_what_is_near() -> None:
    ours = facts(Machine("pc-q35-9.2"), Machine("none"))
    with pytest.raises(InputError, match=r"10\.0\.2 .* no machine type 'pc-q35-9\.9'.*pc-q35-9\.2"):
        ours.machine("pc-q35-9.9")
    assert not ours.has_machine("pc-q35-9.9")


def test_what_a_build_has_and_has_not() -> None:
    ours = facts()
    assert ours.has_device("e1000")
    assert not ours.has_device("e1001")
    assert ours.has_capability("multifd")
    assert not ours.has_capability("switchover-ack")
    assert ours.has_parameter("downtime-limit")
    assert not ours.has_parameter("mode")


def test_the_newest_common_machine_is_newest_by_number() -> None:
    old = build("old", "pc-q35-9.2", "pc-q35-10.0", "pc-q35-8.2", "pc-i440fx-10.0")
    new = build("new", "pc-q35-10.0", "pc-q35-9.2", "pc-q35-11.1", "pc-i440fx-10.0")
    assert newest_common_machine(old, new, "q35") == "pc-q35-10.0"
    assert newest_common_machine(new, old, "q35") == "pc-q35-10.0"
    assert newest_common_machine(new, old, "pc") == "pc-i440fx-10.0"


def test_a_machine_type_with_three_numbers_has_its_place() -> None:
    one = build("one", "pc-q35-4.0", "pc-q35-4.0.1", "pc-q35-4.1")
    two = build("two", "pc-q35-4.0", "pc-q35-4.0.1")
    assert newest_common_machine(one, two, "q35") == "pc-q35-4.0.1"


def test_other_families_are_named_as_they_are() -> None:
    one, two = build("one", "virt-9.0", "virt-10.0"), build("two", "virt-9.0")
    assert newest_common_machine(one, two, "virt") == "virt-9.0"


def test_builds_without_a_common_machine_type_are_named_with_their_ranges() -> None:
    old, new = build("old", "pc-q35-2.4", "pc-q35-4.0"), build("new", "pc-q35-5.2")
    with pytest.raises(InputError) as caught:
        newest_common_machine(old, new, "q35")
    for words in ("'q35'", "old (pc-q35-2.4 to pc-q35-4.0)", "new (pc-q35-5.2)"):
        assert words in str(caught.value)
    with pytest.raises(InputError, match="it has none"):
        newest_common_machine(old, new, "pc")


versions = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9)), max_size=8, unique=True)


@given(versions, versions)
def test_the_newest_common_machine_is_in_both_and_none_is_newer(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    one, two = (build(str(v), *(f"pc-q35-{x}.{y}" for x, y in v)) for v in (a, b))
    common = set(a) & set(b)
    if common:
        x, y = max(common)
        assert newest_common_machine(one, two, "q35") == f"pc-q35-{x}.{y}"
    else:
        with pytest.raises(InputError):
            newest_common_machine(one, two, "q35")


def test_names_come_in_the_order_of_their_versions() -> None:
    names = ["10.0.13", "9.2", "10.0.2", "7.2.22", "my-build"]
    assert sorted(names, key=version_order) == ["7.2.22", "9.2", "10.0.2", "10.0.13", "my-build"]


def test_the_second_build_of_a_version_is_told_by_where_it_comes_from() -> None:
    assert propose_name("10.0.2", "bookworm-backports", []) == "10.0.2"
    taken = ["10.0.2"]
    assert propose_name("10.0.2", "bookworm-backports", taken) == "10.0.2-bookworm-backports"
    taken.append("10.0.2-bookworm-backports")
    assert propose_name("10.0.2", "bookworm-backports", taken) == "10.0.2-bookworm-backports-2"


@given(st.lists(st.text(max_size=80), max_size=6))
def test_proposed_names_are_good_and_no_two_are_the_same(labels: list[str]) -> None:
    from qmptests.builds.registry import check_name  # noqa: PLC0415

    taken: list[str] = []
    for label in labels:
        taken.append(check_name(propose_name("10.0.2", label, taken)))
    assert len(set(taken)) == len(labels)


@given(st.lists(st.text(max_size=12), max_size=8))
def test_any_names_can_be_put_in_order(names: list[str]) -> None:
    assert sorted(sorted(names, key=version_order)) == sorted(names)
