"""The command line, and the table of what versions lack."""

from pathlib import Path

import pytest

from qmptests.vm import Definition, dialect
from qmptests.vm.command import Options, command_line

OLD, NEW = (10, 0, 13), (11, 1, 0)


def argv(version: dialect.Version, definition: Definition, **options: object) -> list[str]:
    return command_line(
        ["qemu"],
        version,
        definition,
        Options(machine="pc-q35-10.0", **options),  # type: ignore[arg-type]
        guest_args=["-bios", "guest.bin"],
        trace_file=Path("/log"),
    )


def test_the_monitor_is_asked_for_in_each_versions_way() -> None:
    assert "chardev=qmp,mode=control" in argv(OLD, Definition())
    assert "monitor-qmp,id=monitor-qmp,chardev=qmp" in argv(NEW, Definition())
    assert "-mon" not in argv(NEW, Definition())


def test_everything_in_the_definition_is_on_the_command_line() -> None:
    definition = Definition(
        memory="1G",
        cpus=3,
        cpu="max",
        devices=["virtio-rng-pci,addr=04.0"],
        args=["-boot", "menu=on"],
    )
    line = " ".join(argv(OLD, definition, incoming=True, paused=True, extra=["-extra"]))
    for part in (
        "-machine pc-q35-10.0 ",
        "-m 1024M ",
        "-smp 3 ",
        "-cpu max ",
        "-device virtio-rng-pci,addr=04.0 ",
        "-boot menu=on ",
        "-bios guest.bin ",
        "-incoming defer ",
        "-S ",
    ):
        assert part in line
    assert line.endswith(" -extra")


@pytest.mark.parametrize("feature", dialect.Feature)
def test_a_feature_begins_with_its_version(feature: dialect.Feature) -> None:
    major, minor, _ = feature.value.since
    assert dialect.has((major, minor, 0), feature)
    assert not dialect.has((major - 1, 9, 9), feature)
