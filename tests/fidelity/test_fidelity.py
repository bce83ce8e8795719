"""The emulation answers as Linux does: one C program asks, tables say what a kernel answers."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from qmptests.vfio import descriptors, spec, start
from qmptests.vfio.profile import to_spec
from qmptests.vm import devices
from tests.fidelity.answers import HERE, Case, Group, differences, groups

GROUPS = groups()
RUN = (sys.executable, "-m", "qmptests.cli.main", "vfio", "run")
SECONDS = 120

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def probe(header_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, with the newest kernel headers; static, as a machine without ours can run it."""
    program = tmp_path_factory.mktemp("fidelity") / "probe"
    command = [
        "cc",
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-format-zero-length",
        "-Wno-override-init",
        "-O1",
        "-static",
    ]
    command += ["-isystem", str(header_tree / "usr/include"), "-o", str(program)]
    sources = [str(path) for path in sorted(HERE.glob("*.c"))]
    done = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def emulated(profiles: Sequence[str], *argv: object, folder: Path) -> Done:
    """Run a command line under a supervisor with these devices, as `qmptests vfio run` does it."""
    specs = []
    for number, text in enumerate(profiles):
        profile = devices.load(text)
        assert profile.vfio
        specs.append(to_spec(profile.vfio, f"vf{number}", seed=1, profile_name=text))
    settings = {"argv": [*map(str, argv)], "devices": [*map(spec.to_json, specs)]}
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(json.dumps(settings).encode())
        file.seek(0)
        return subprocess.run(
            [sys.executable, "-I", "-S", start.__file__, str(file.fileno())],
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=folder,
        )


def check(group: Group, done: Done) -> None:
    """That a group's answers are as its table says."""
    assert done.returncode == 0, done.stderr
    assert "the emulation is wrong itself" not in done.stderr
    assert list(differences(group, done.stdout.splitlines(), emulated=True)) == []


@pytest.mark.parametrize("group", GROUPS.values(), ids=lambda group: group.name)
def test_the_emulation_answers_as_linux(probe: Path, group: Group, disk_folder: Path) -> None:
    numbers = [f"--device={descriptors.device(number)}" for number in range(len(group.devices))]
    words = [probe, f"--iommufd={descriptors.IOMMUFD}", *numbers, group.name]
    check(group, emulated(group.devices, *words, folder=disk_folder))


def test_it_does_so_under_vfio_run(probe: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*RUN, "--device", "idle", "--", probe, "--iommufd=@iommufd", "ioas"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=tmp_path,
    )
    check(GROUPS["ioas"], done)


def test_every_group_of_the_probe_has_a_table(probe: Path) -> None:
    done = subprocess.run([probe, "--list"], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == sorted(GROUPS)


@pytest.mark.parametrize("words", [[], ["ioas"], ["--iommufd=0"], ["--iommufd=0", "nothing"]])
def test_a_probe_that_does_not_know_what_to_do_says_how_it_is_called(
    probe: Path, words: list[str]
) -> None:
    done = subprocess.run([probe, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: probe --iommufd=")


def test_what_cannot_be_opened_is_told_by_name(probe: Path) -> None:
    done = subprocess.run(
        [probe, "--iommufd=/nowhere/iommu", "ioas"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "/nowhere/iommu: No such file" in done.stderr


# --- the comparison -----------------------------------------------------------------------------

MADE_UP = Group(
    "g",
    (),
    {
        "same": Case("0 - id=1", "f"),
        "known": Case("-1 EBUSY", "f", here="0 -", why="nobody needs it"),
    },
)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["g/same 0 - id=1", "g/known 0 -"], []),
        (["g/same 0 - id=2", "g/known 0 -"], ["g/same: Linux 0 - id=1 (f); got 0 - id=2"]),
        (["g/same 0 - id=1"], ["g/known: Linux -1 EBUSY (f), here so far 0 -; got nothing"]),
        (["g/same 0 - id=1", "g/known -1 EBUSY"], ["g/known: equal to the kernel by now"]),
        (["g/same 0 - id=1", "g/known 0 -", "g/more 0 -"], ["g/more: got 0 -; the table"]),
        (["g/same 0 - id=1", "g/same 0 - id=1", "g/known 0 -"], ["g/same: there are two"]),
        (["g/same 0 - id=1", "g/known 0 -", "oops"], ["g: not a case's line: 'oops'"]),
    ],
)
def test_differences_are_named(lines: list[str], says: list[str]) -> None:
    found = list(differences(MADE_UP, lines, emulated=True))
    assert len(found) == len(says)
    assert all(line.startswith(start) for line, start in zip(found, says, strict=True))


def test_a_kernel_must_not_have_the_emulations_differences() -> None:
    lines = ["g/same 0 - id=1", "g/known 0 -"]
    assert list(differences(MADE_UP, lines, emulated=False)) == [
        "g/known: Linux -1 EBUSY (f); got 0 -"
    ]


HEAD = 'linux = "7.3.4"\nfolder = "drivers"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[g]\n", "doesn't say `linux`"),
        (HEAD + 'g.c = { kernel = "0 -" }', "g/c"),
        (HEAD + 'g.c = { kernel = "0 -", by = "f", when = "now" }', "g/c"),
        (HEAD + 'g.c = { kernel = "0 -", by = "f", here = "1 -" }', "a difference has"),
        (HEAD + 'g.c = { kernel = "0 -", by = "f", why = "so" }', "a difference has"),
        (HEAD + 'g.c = { kernel = "0 -", by = "f", here = "0 -", why = "so" }', "a difference"),
    ],
)
def test_a_table_that_does_not_say_enough_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "table.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        groups([path])
