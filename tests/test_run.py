"""`./run` sets up a checkout once and runs the steps of tox.ini."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent
#: The interpreter behind the environment that runs this: the one that a fresh checkout would use.
PYTHON = str(Path(sys.base_prefix, "bin/python3"))

PYPROJECT = """
[build-system]
requires = ["thinnest"]
build-backend = "thinnest"
[project]
name = "small"
version = "1"
[tool.setuptools]
"""

# A build backend that needs no index: its editable wheel puts the checkout on the path.
BACKEND = """
import pathlib, zipfile
METADATA = "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\nProvides-Extra: dev\\n"
WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(pathlib.Path(folder, "small-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("small.pth", str(pathlib.Path.cwd()))
        wheel.writestr("small-1.dist-info/METADATA", METADATA)
        wheel.writestr("small-1.dist-info/WHEEL", WHEEL)
        wheel.writestr("small-1.dist-info/RECORD", "")
    return "small-1-py3-none-any.whl"
"""

TOX = """
[tox]
env_list = lint, py311, py312
[testenv]
commands = sh -c "echo ran tests: $*" sh {posargs}
[testenv:lint]
commands =
    sh -c "echo ran first; exit 1"
    sh -c "echo ran second"
"""


class Checkout:
    """A checkout with `run` in it, and pip confined to a folder of wheels."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "checkout"
        self.environment = {
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "QMPTESTS_CACHE": str(tmp_path / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        }
        (self.path / "qmptests").mkdir(parents=True)
        shutil.copy(HERE / "run", self.path)
        for name in ("__init__.py", "dirs.py", "errors.py", "places.py", "printable.py"):
            shutil.copy(HERE / "qmptests" / name, self.path / "qmptests")
        (self.path / "pyproject.toml").write_text(PYPROJECT)
        (self.path / "tox.ini").write_text(TOX)
        (tmp_path / "wheels").mkdir()
        with zipfile.ZipFile(tmp_path / "wheels/thinnest-1-py3-none-any.whl", "w") as wheel:
            about = "thinnest-1.dist-info"
            wheel.writestr("thinnest.py", BACKEND)
            wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: thinnest\nVersion: 1")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, str(self.path / "run"), *arguments],
            env=self.environment,
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    pip = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
    if pip.returncode != 0:
        pytest.skip(f"{PYTHON} has no pip: ./run can't set anything up with it")
    return Checkout(tmp_path)


def test_sets_up_once_and_again_only_when_it_must(checkout: Checkout) -> None:
    where = ["python", "-c", "import qmptests, sys; print(qmptests.__file__, sys.prefix)"]
    first = checkout.run(*where)
    assert (first.returncode, "setting up" in first.stderr) == (0, True), first.stderr
    venv = checkout.path / ".venv"
    assert first.stdout.split() == [str(checkout.path / "qmptests/__init__.py"), str(venv)]

    shutil.rmtree(checkout.environment["PIP_FIND_LINKS"])  # from here on nothing can be fetched
    pyproject = checkout.path / "pyproject.toml"
    pyproject.write_text(PYPROJECT + "[tool.other]\nx = 1\n")
    unchanged = checkout.run(*where)
    assert (unchanged.stdout, unchanged.stderr) == (first.stdout, "")

    pyproject.write_text(PYPROJECT.replace('"small"', '"small"\ndescription = "changed"'))
    changed = checkout.run(*where)
    assert (changed.stdout, "setting up" in changed.stderr) == (first.stdout, True), changed.stderr

    pyproject.write_text(PYPROJECT.replace('["thinnest"]', '["thinnest", "absent"]'))
    assert checkout.run("true").returncode == 3
    pyproject.write_text(PYPROJECT.replace('"small"', '"small"\ndescription = "changed"'))
    assert checkout.run(*where).stderr == "", "a set-up that failed spoils the one before it"

    (venv / "set-up").unlink()  # as an interrupted set-up leaves it
    again = checkout.run("true")
    assert again.returncode == 3
    assert "needs a Python package index" in again.stderr


def test_runs_every_step_once_and_fails_if_one_failed(checkout: Checkout) -> None:
    result = checkout.run("test", "-k", "a b")
    said = [line for line in result.stdout.splitlines() if not line.startswith("$ ")]
    assert said == ["ran first", "ran second", "ran tests: -k a b"]
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("run: failed: sh -c")

    (checkout.path / "tox.ini").write_text(TOX.replace("exit 1", "exit 0"))
    assert checkout.run("test").returncode == 0

    unknown = checkout.run("no-such-command")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("run: no-such-command: No such file")


@pytest.mark.smoke  # CI is root, but for the smoke tier
@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_works_in_a_copy_of_a_checkout_that_cannot_be_written(checkout: Checkout) -> None:
    (checkout.path / "qmptests/link").symlink_to("../linked")
    for folder in (checkout.path, checkout.path / "qmptests"):
        folder.chmod(0o555)
    try:
        first = checkout.run("pwd")
        with (checkout.path / "qmptests/dirs.py").open("a") as source:
            source.write("# changed\n")
        second = checkout.run("tail", "-n1", "qmptests/dirs.py")
    finally:
        for folder in (checkout.path, checkout.path / "qmptests"):
            folder.chmod(0o755)
    assert Path(first.stdout.strip()).is_relative_to(checkout.environment["QMPTESTS_CACHE"])
    assert second.stdout == "# changed\n"
    assert "setting up" not in second.stderr
    assert not (checkout.path / ".venv").exists()


def test_without_a_command_says_what_it_is_for() -> None:
    result = subprocess.run([PYTHON, str(HERE / "run")], capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"./run COMMAND" in result.stderr
