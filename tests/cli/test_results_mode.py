"""Results are their user's alone, unless he says otherwise: each command that writes them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.builds import resolve
from qmptests.migration import Observer, Phase, Plan, Run, migrate
from qmptests.vm import load

NEW = "debian:trixie-backports"
MIGRATE = ["migrate", f"--source={NEW}", "--vm=none", "--device=idle", "-q"]
MATRIX = ["matrix", f"--build={NEW}", "--same-build", "--vm=none", "--cell=machine=*q35*", "-q"]


def run(arguments: list[str], cwd: Path, umask: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qmptests.cli.main", *arguments],
        cwd=cwd,
        umask=umask,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def modes(folder: Path) -> dict[str, str]:
    """Of all that is in a folder, and of itself: only those that are unlike others."""
    found: dict[str, set[str]] = {}
    for place, names, files in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in names + files)):
            kind = "folders" if path.is_dir() else "scripts" if path.suffix == ".sh" else "files"
            found.setdefault(oct(stat.S_IMODE(path.lstat().st_mode)), set()).add(kind)
    return {mode: ", ".join(sorted(kinds)) for mode, kinds in found.items()}


@pytest.mark.parametrize("command", [MIGRATE, MATRIX], ids=["migrate", "matrix"])
def test_nobody_else_reads_them_by_default(command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path, umask=0o002)
    assert done.returncode == 0, done.stderr
    assert modes(tmp_path / "qmptests-results") == {"0o700": "folders, scripts", "0o600": "files"}


@pytest.mark.parametrize("command", [MIGRATE, MATRIX], ids=["migrate", "matrix"])
def test_others_may_whatever_the_umask_is_if_it_is_said(command: list[str], tmp_path: Path) -> None:
    options = ["--results-mode=0755", "--output=deep/out"]
    done = run([*command, *options], tmp_path, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert modes(tmp_path / "deep") == {"0o755": "folders, scripts", "0o644": "files"}


def test_a_wrong_mode_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for command in (MIGRATE, MATRIX, ["bench", "reinit"]):
        done = run([*command, "--results-mode=0555"], tmp_path, umask=0o022)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "results mode '0555' is none for a folder of yours" in done.stderr
    assert list(tmp_path.iterdir()) == []


class Looks(Observer):
    """At the folder's mode in each phase."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    async def reached(self, phase: Phase, run: Run) -> None:  # noqa: ARG002
        self.seen.add(oct(stat.S_IMODE(run.folder.stat().st_mode)))


def test_a_folder_is_private_while_it_is_written(tmp_path: Path) -> None:
    build, looks = resolve(NEW), Looks()
    outcome = migrate(Plan(build, build, load("none")), tmp_path / "out", [looks], mode=0o755)
    assert looks.seen == {"0o700"}
    assert stat.S_IMODE(outcome.folder.stat().st_mode) == 0o755
