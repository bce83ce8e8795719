"""The commands `builds` and `doctor`, as users and their scripts see them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qmptests.builds import Build


def qmptests(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-m", "qmptests.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def read(*arguments: str) -> Any:
    done = qmptests(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_build_is_added_listed_shown_and_removed(own_cache: Path, build_tree: Path) -> None:
    done = qmptests("builds", "add", str(build_tree), "--name", "mine")
    assert (done.returncode, done.stdout.split()[0]) == (0, "mine")
    (row,) = read("builds", "list")
    assert row["name"] == "mine"
    shown = read("builds", "show", "mine")
    assert shown["facts"]["target"] == "x86_64"
    assert shown["facts"]["capabilities"] == sorted(shown["facts"]["capabilities"])
    assert shown["argv"][0] == str(build_tree / "build" / "qemu-system-x86_64")
    assert "mine" in qmptests("builds", "list").stdout
    assert "pc-q35-10.0 (q35)" in qmptests("builds", "show", "mine").stdout
    assert qmptests("builds", "remove", "mine").returncode == 0
    assert read("builds", "list") == []


def test_adding_what_is_known_runs_no_program_and_no_monitor(
    own_cache: Path, trixie: Build
) -> None:
    assert qmptests("builds", "add", "debian:trixie").returncode == 0
    code = (
        "import sys; from qmptests.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'asyncio', 'qemu.qmp', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "builds", "add", "debian:trixie"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": "/nowhere", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "nothing-like-it"), "'nothing-like-it' is no registered build"),
        (("add", "debian:trixie", "--name", "a/b"), "'a/b' can't be a build's name"),
        (("add", "/bin/true"), "/bin/true is no working QEMU"),
        (("show", "nothing-like-it"), "'nothing-like-it' is no registered build"),
        (("remove", "nothing-like-it"), "'nothing-like-it' is no added build"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    own_cache: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = qmptests("builds", *arguments)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("qmptests: error:")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in done.stderr


def test_the_doctor_says_what_is_and_what_to_do_about_what_is_not(own_cache: Path) -> None:
    assert qmptests("builds", "add", "debian:trixie", "--name", "trixie").returncode == 0
    findings = {item["name"]: item for item in read("doctor")}
    assert findings["trixie: tcg"]["state"] == "ok"
    assert findings["builds"]["detail"] == "trixie"
    assert findings["emulated VFIO"]["detail"].startswith("a child's system calls were served")
    for item in findings.values():
        assert item["state"] in {"ok", "lacking", "broken"}
        assert (item["remedy"] == "") == (item["state"] == "ok"), item


def test_the_doctor_says_why_devices_cannot_be_emulated(own_cache: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 200; exec {sys.executable} -m qmptests.cli.main doctor --json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": "/nowhere:/bin", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    (found,) = (item for item in json.loads(done.stdout) if item["name"] == "emulated VFIO")
    assert found["state"] == "lacking"
    assert "only 200 open files" in found["detail"]
    assert found["remedy"].startswith("`ulimit -n 256`")


def test_the_doctor_says_what_a_machine_without_apt_can_do(own_cache: Path) -> None:
    done = qmptests("doctor", PATH="/nowhere")
    assert done.returncode == 0
    assert "no apt-get" in done.stdout
    assert "-> name a QEMU binary's path or a QEMU build tree" in done.stdout
