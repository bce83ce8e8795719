"""Options and ini keys reach the plans; what a plan says reaches the command lines."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

#: A test that writes down the coordinates of its cell, and migrates nothing.
NOTE = """
def test_it(cell, pytestconfig):
    with open(pytestconfig.rootpath / "cells.txt", "a") as file:
        print(*cell.coordinates.values(), file=file)
"""
INI = """
[pytest]
qemu_build = debian:trixie debian:trixie-backports
qemu_matrix = full
qemu_machine = q35 pc-i440fx-10.0
qemu_vm = none
qemu_device = none virtio-rng
qemu_transport = tcp
qemu_capabilities = none return-path
qemu_cell = source=10.0,device=none,capabilities=none machine=q35-10.0,capabilities=return*
qemu_results = of_ini
"""


def noted(suite: "Suite") -> set[str]:
    file = suite.path / "cells.txt"
    lines = file.read_text().splitlines()
    file.unlink()
    assert len(set(lines)) == len(lines)
    return set(lines)


def test_each_option_makes_an_axis(suite: "Suite") -> None:
    suite.write(NOTE)
    result = suite.run(
        *("--qemu-source=debian:trixie", "--qemu-destination=debian:trixie-backports"),
        *("--qemu-matrix=full", "--qemu-machine=q35", "--qemu-machine=pc-i440fx-9.*"),
        *("--qemu-vm=none", "--qemu-device=none", "--qemu-device=virtio-rng"),
        *("--qemu-transport=tcp", "--qemu-transport=fd"),
        *("--qemu-capabilities=none", "--qemu-capabilities=multifd+return-path"),
        *("--qemu-cell=device=none", "--qemu-cell=transport=tcp,machine=*q35*"),
    )
    pair = "10.0 11.1"
    both = ["none", "multifd+return-path"]
    assert noted(suite) == {
        *(
            f"{pair} {machine} none none {way} {capabilities}"
            for machine in ("pc-q35-10.0", "pc-i440fx-9.0", "pc-i440fx-9.1", "pc-i440fx-9.2")
            for way in ("tcp", "fd")
            for capabilities in both
            if way == "tcp" or capabilities == "none"
        ),
        *(f"{pair} pc-q35-10.0 none virtio-rng tcp {capabilities}" for capabilities in both),
    }
    assert result.ret == 0


def test_the_same_keys_in_an_ini_file_and_the_command_line_beats_them(suite: "Suite") -> None:
    suite.pytester.makeini(INI)
    suite.write(NOTE)
    suite.run().assert_outcomes(passed=2 + 4)
    there, back = "10.0 11.1", "11.1 10.0"
    assert noted(suite) == {
        *(f"{there} pc-{m}-10.0 none none tcp none" for m in ("q35", "i440fx")),
        *(
            f"{pair} pc-q35-10.0 none {device} tcp return-path"
            for pair in (there, back)
            for device in ("none", "virtio-rng")
        ),
    }
    assert (suite.path / "of_ini" / "cells.json").exists()
    suite.run(
        *("--qemu-build=debian:trixie", "--qemu-matrix=smoke", "--qemu-machine=pc"),
        *("--qemu-device=virtio-net", "--qemu-transport=unix", "--qemu-capabilities=none"),
        *("--qemu-cell=source=*", f"--qemu-results={suite.folder}"),
    ).assert_outcomes(passed=1)
    assert noted(suite) == {"10.0 10.0 pc-i440fx-10.0 none virtio-net unix none"}
    assert suite.cells.select == "smoke"


@pytest.mark.parametrize(
    ("options", "scheduler"),
    [
        (("-n2",), "WorkStealingScheduling"),
        (("-n2", "--dist=load"), "LoadScheduling"),
        (("-n", "auto", "--maxprocesses=1", "-d"), "LoadScheduling"),
    ],
)
def test_work_is_stolen_unless_another_way_was_chosen(
    suite: "Suite", options: tuple[str, ...], scheduler: str
) -> None:
    suite.write("def test_it(cell): pass")
    result = suite.matrix("-v", *options)
    result.stdout.fnmatch_lines([f"scheduling tests via {scheduler}"])
    assert result.ret == 0


def test_more_qemu_options_and_a_wrapper_reach_the_command_lines(
    suite: "Suite", workers: tuple[str, ...]
) -> None:
    suite.migrating()
    wrapper = suite.path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho "$1" >> {suite.path}/wrapped\nshift\nexec "$@"\n')
    wrapper.chmod(0o755)
    result = suite.matrix(
        *workers,
        "--qemu-cell=source=10.*",
        "--qemu-args=-global 'virtio-rng-pci.period=7'",
        "--qemu-source-args=-name 'the source'",
        "--qemu-destination-args=-name to",
        f"--qemu-wrapper={wrapper} '{{side}} word'",
    )
    result.assert_outcomes(passed=1)
    (item,) = suite.items
    record = suite.outcome(item)
    for side, name in ((record["source"], "the source"), (record["destinations"][0], "to")):
        argv = side["argv"]
        assert argv[argv.index("-global") + 1] == "virtio-rng-pci.period=7"
        assert [argv[i + 1] for i, word in enumerate(argv) if word == "-name"][-1] == name
    assert sorted((suite.path / "wrapped").read_text().splitlines()) == [
        "destination word",
        "source word",
    ]
