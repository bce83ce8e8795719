"""A tree's files are those of its packages, or it is said; and who waits for the cache says so."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qmptests import locking, packages
from qmptests.errors import EnvironmentFailure
from qmptests.packages import soundness, store
from qmptests.packages.store import Tree

if TYPE_CHECKING:
    from tests.packages.conftest import Archive


@pytest.fixture
def tree(archive: "Archive", monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(soundness, "_sound", set())
    monkeypatch.setattr(soundness, "_read", {})
    return packages.fetch("leaf", ["tea"], progress=lambda _: None)


def another_process(tree: Tree, *, content: bool = False) -> str:
    soundness._sound.clear()
    soundness._read.clear()
    return packages.damage(tree, content=content)


def flip(path: Path) -> None:
    """Another content of the same size, and as old."""
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["flipped", "truncated", "gone", "a folder"])
def test_a_damaged_file_is_named(tree: Tree, how: str) -> None:
    path = tree.root / "usr/share/tea/version"
    assert another_process(tree) == ""
    if how == "flipped":
        flip(path)
    elif how == "truncated":
        os.truncate(path, 2)
    else:
        path.unlink()
    if how == "a folder":
        path.mkdir()
    assert another_process(tree) == f"{path} is not the file of its package"
    assert packages.damage(tree)  # nor is it forgotten in this process


def test_nothing_is_put_into_the_temporary_directory(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stay there if we were killed."""
    monkeypatch.setenv("TMPDIR", "/nowhere")
    flip(tree.root / "usr/share/tea/version")
    assert another_process(tree)


def test_a_tree_of_an_older_version_is_looked_at_once(tree: Tree) -> None:
    """One that has no note of its state, and one that was copied."""
    note = tree.root.parent / soundness.STATE
    noted = note.read_bytes()
    note.unlink()
    assert another_process(tree) == ""
    assert note.read_bytes() == noted
    (tree.root / "usr/share/tea/version").touch()
    assert another_process(tree) == ""
    assert note.read_bytes() != noted


def test_a_package_file_that_is_gone_takes_only_the_proof(tree: Tree) -> None:
    for package in tree.packages:
        store.deb_path(package.sha256).unlink()
    flip(tree.root / "usr/share/tea/version")
    assert another_process(tree) == ""


def test_what_no_time_shows_is_found_by_reading(tree: Tree) -> None:
    path = tree.root / "usr/share/tea/version"
    flip(path)
    soundness.trust(tree)  # as if a disk had changed the block
    assert another_process(tree) == ""
    assert another_process(tree, content=True) == f"{path} is not the file of its package"


def test_a_damaged_tree_is_unpacked_again_if_it_is_added_again(tree: Tree) -> None:
    path = tree.root / "usr/share/tea/version"
    flip(path)
    said: list[str] = []
    assert packages.fetch("leaf", ["tea"], progress=said.append) == tree
    assert another_process(tree)
    assert packages.fetch("leaf", ["tea"], progress=said.append, repair=True) == tree
    assert said == [
        f"debian:leaf: {path} is not the file of its package",
        "debian:leaf: unpacking 2 packages",
    ]
    assert path.read_text() == "2-leaf"
    assert another_process(tree, content=True) == ""


HOLD = """
import sys
from qmptests.packages import store
with store.locked(print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_waits_says_for_whom_and_not_for_ever(tree: Tree) -> None:
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        lock = store.directory() / "lock"
        with (
            pytest.raises(EnvironmentFailure) as caught,
            locking.held(lock, "the cache", said.append, deadline_s=0.2),
        ):
            pass
        assert len(said) == 1
        assert said[0].startswith(f"waiting for process {holder.pid} (")
        says = rf"the cache is locked by process {holder.pid} \(.*\) since 0.2 s"
        assert re.match(says, str(caught.value))

        def end(line: str) -> None:
            said.append(line)
            assert holder.stdin
            holder.stdin.close()

        packages.fetch("leaf", ["water"], progress=end)
    assert said[1].endswith("which has locked the cache of packages")
    said.clear()
    packages.fetch("leaf", ["tea"], progress=said.append, refresh=True)
    assert not any("waiting" in line for line in said)
