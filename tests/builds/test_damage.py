"""What is damaged in the cache is said, and neither left out nor blamed on QEMU."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests import builds
from qmptests.builds import Broken, Build
from qmptests.cli.migrate import Progress
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.migration import Plan, migrate
from qmptests.outcome import Result
from qmptests.packages import soundness
from qmptests.vm import load
from tests.builds.test_cli import qmptests


def flip(path: Path) -> None:
    """One bit in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def root(build: Build) -> Path:
    return build.binary.parents[2]


def test_a_damaged_build_is_one_line_with_the_file(own_tree: Build) -> None:
    path = own_tree.binary
    flip(path)
    done = qmptests("migrate", "--quiet", "--source", own_tree.name, "--output", "/proc/nowhere")
    assert done.returncode == 3
    assert done.stderr.startswith(f"qmptests: error: the build is damaged: {path} is not the")
    assert "`qmptests builds remove debian:trixie`, and `qmptests builds add" in done.stderr
    assert done.stderr.count("\n") == 1
    done = qmptests("builds", "list")
    assert (done.returncode, own_tree.name in done.stderr) == (3, True)
    done = qmptests("matrix", "--list")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"the added build {own_tree.name} can't be used: the build is damaged" in done.stderr


@pytest.mark.parametrize("name", ["bios-256k.bin", "libglib-2.0.so.0"])
def test_so_is_one_whose_firmware_or_library_is(own_tree: Build, name: str) -> None:
    path = next(root(own_tree).rglob(name)).resolve()
    flip(path)
    soundness._sound.clear()
    with pytest.raises(EnvironmentFailure, match=f"{path} is not the file of its package"):
        builds.resolve("debian:trixie")


def test_a_build_that_is_damaged_while_it_is_used_is_no_fault_of_qemus(
    own_tree: Build, tmp_path: Path
) -> None:
    plan = Plan(source=own_tree, destination=own_tree, definition=load("none"))
    library = next(root(own_tree).rglob("libglib-2.0.so.0")).resolve()
    os.truncate(library, 4096)
    outcome = migrate(plan, tmp_path / "out", [Progress(quiet=True)])
    assert outcome.record.result is Result.ENVIRONMENT
    assert f"is damaged: {library} is not the file of its package" in outcome.record.error


def test_a_binary_that_was_replaced_while_it_was_used_is_no_fault_of_its(
    own_cache: Path, build_tree: Path, tmp_path: Path
) -> None:
    build = builds.resolve(str(build_tree))
    build.binary.write_text("#!/bin/sh\nkill -SEGV $$\n")
    plan = Plan(source=build, destination=build, definition=load("none"))
    outcome = migrate(plan, tmp_path / "out", [])
    assert outcome.record.result is Result.ENVIRONMENT
    assert f"{build.binary} was replaced while it was used" in outcome.record.error


def registration(cache: Path, name: str) -> Path:
    return cache / "builds" / "registered" / f"{name}.json"


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped", "another's", "a pipe"])
def test_a_damaged_registration_does_not_vanish(
    own_cache: Path, build_tree: Path, how: str
) -> None:
    builds.add(["debian:trixie"])
    builds.add([str(build_tree)], "mine")
    path = registration(own_cache, "mine")
    data = path.read_bytes()
    if how == "a pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "another's":
        path.write_bytes(registration(own_cache, builds.resolve("debian:trixie").name).read_bytes())
    else:
        changed = {"truncated": data[:40], "empty": b"", "flipped": data.replace(b"qemu", b"qemv")}
        path.write_bytes(changed[how])
    done = qmptests("builds", "list", "--json")
    assert done.returncode == 3
    assert [row["name"] for row in json.loads(done.stdout) if "problem" in row] == ["mine"]
    done = qmptests("matrix", "--list")
    assert (done.returncode, done.stdout) == (3, "")
    assert "the added build mine can't be used: " in done.stderr
    with pytest.raises(EnvironmentFailure, match=r"noted of the build mine is damaged .*remove mi"):
        builds.resolve("mine")
    builds.remove("mine")
    assert qmptests("builds", "list").returncode == 0
    with pytest.raises(InputError):
        builds.remove("mine")


def test_a_registration_of_an_older_version_is_taken(own_cache: Path, build_tree: Path) -> None:
    """It has no check; and an older version reads what this one writes."""
    builds.add([str(build_tree)], "mine")
    path = registration(own_cache, "mine")
    fields = json.loads(path.read_bytes())
    assert fields.keys() == {"name", "spec", "digest", "check"}
    del fields["check"]
    path.write_text(json.dumps(fields))
    assert builds.resolve("mine").registered


def test_damaged_facts_are_asked_for_again(
    own_cache: Path, build_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not read as they are: a machine type that is missing would be cells that are missing."""
    before = builds.resolve(str(build_tree)).facts
    (path,) = (own_cache / "builds" / "facts").iterdir()
    path.write_bytes(path.read_bytes().replace(b"pc-q35-10.0", b"pc-q35-10.9"))
    monkeypatch.setattr(sys.modules[Broken.__module__], "_probed", {})
    said: list[str] = []
    assert builds.resolve(str(build_tree), progress=said.append).facts == before
    assert len(said) == 1


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.calls = 0
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self._function(*arguments)


def test_looking_costs_no_reading(own_tree: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix of hundreds of cells looks at each build once, and reads nothing."""
    walked = Counted(soundness._state)
    read = Counted(soundness._bad)
    monkeypatch.setattr(soundness, "_state", walked)
    monkeypatch.setattr(soundness, "_bad", read)
    soundness._sound.clear()
    for _ in range(3):
        builds.resolve("debian:trixie")
    assert (walked.calls, read.calls) == (1, 0)
