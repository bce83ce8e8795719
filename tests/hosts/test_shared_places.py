"""In a temporary directory that others can write, only what is ours alone is touched."""

import contextlib
import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmptests import eventloop, removal
from qmptests.hosts import LocalHost
from qmptests.hosts.local import remove_stale_scratch

STALE = "qmptests-1-aaaaaaaaaaaa"
#: A user who owns nothing.
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture(params=[0o1777, 0o777], ids=["sticky", "not-sticky"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place where everybody can write, and our temporary directory."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(request.param)
    module = sys.modules[LocalHost.__module__]  # its name in the room is a function's
    monkeypatch.setattr(module, "_temporary_directory", lambda: place)
    return place


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "victim"
    (folder / "sub").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    for path in (folder / "precious", folder / "sub" / "precious"):
        path.write_text("kept")
    return folder


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def as_nobody(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def test_what_a_killed_launcher_left_is_removed(shared: Path) -> None:
    stale = shared / STALE
    (stale / "a" / "b").mkdir(parents=True)
    stale.chmod(0o700)
    (stale / "a" / "file").write_text("x")
    (stale / "dangling").symlink_to("nowhere")
    remove_stale_scratch()
    assert content(shared) == []


def test_a_link_is_not_followed(shared: Path, victim: Path) -> None:
    before = content(victim)
    (shared / STALE).symlink_to(victim)
    remove_stale_scratch()
    removal.remove_private(str(shared / STALE))
    assert content(victim) == before
    assert content(shared) == [STALE]


def test_links_inside_go_and_what_they_mean_stays(shared: Path, victim: Path) -> None:
    before = content(victim)
    stale = shared / STALE
    (stale / "sub").mkdir(parents=True)
    stale.chmod(0o700)
    for folder in (stale, stale / "sub"):
        (folder / "link").symlink_to(victim)
    (stale / "hard").hardlink_to(victim / "precious")
    remove_stale_scratch()
    assert (content(shared), content(victim)) == ([], before)


@needs_root
def test_a_link_of_another_user_is_not_followed(shared: Path, victim: Path) -> None:
    before = content(victim)
    (shared / STALE).symlink_to(victim)
    as_nobody(shared / STALE)
    remove_stale_scratch()
    assert content(victim) == before


@needs_root
def test_a_folder_of_another_user_is_left_alone(shared: Path) -> None:
    (shared / STALE / "sub").mkdir(parents=True, mode=0o700)
    (shared / STALE).chmod(0o700)
    as_nobody(shared / STALE)
    remove_stale_scratch()
    removal.remove_private(str(shared / STALE))
    assert content(shared) == [STALE, f"{STALE}/sub"]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o750])
def test_a_folder_of_ours_that_is_open_to_others_was_none_of_a_launchers(
    shared: Path, mode: int
) -> None:
    """Somebody may have moved it there under this name; others' files may be in it."""
    (shared / STALE / "sub").mkdir(parents=True)
    (shared / STALE).chmod(mode)
    remove_stale_scratch()
    assert content(shared) == [STALE, f"{STALE}/sub"]


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_what_is_no_folder_is_left_alone(shared: Path, kind: str) -> None:
    path = shared / STALE
    path.touch() if kind == "file" else os.mkfifo(path)
    remove_stale_scratch()
    assert content(shared) == [STALE]


def test_a_folder_that_is_swapped_for_a_link_after_it_was_opened(
    shared: Path, victim: Path
) -> None:
    before = content(victim)
    stale = shared / STALE
    (stale / "sub").mkdir(parents=True)
    stale.chmod(0o700)
    folder = removal.open_private(str(stale))
    try:
        stale.rename(shared / "elsewhere")
        stale.symlink_to(victim)
        with pytest.raises(NotADirectoryError):
            removal.remove_opened(str(stale), folder)
    finally:
        os.close(folder)
    assert content(victim) == before
    assert content(shared / "elsewhere") == []


def swap(folders: list[Path], victim: Path, stop: threading.Event) -> None:
    """Exchange folders for a link to the victim and back, as fast as it can."""
    link = folders[0].parent.parent / "link"
    link.symlink_to(victim)
    while not stop.is_set():
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rename(f"{link}.aside")
                link.rename(folder)
                folder.rename(link)
                Path(f"{link}.aside").rename(folder)


def test_subfolders_that_are_swapped_for_links_meanwhile(shared: Path, victim: Path) -> None:
    """By a process of our own: others can't enter such a folder."""
    before = content(victim)
    for round_ in range(20):
        stale = shared / str(round_) / STALE
        folders = [stale / str(number) for number in range(20)]
        for folder in folders:
            (folder / "sub").mkdir(parents=True)
        stale.chmod(0o700)
        stop = threading.Event()
        attacker = threading.Thread(target=swap, args=(folders, victim, stop))
        attacker.start()
        removal.remove_private(str(stale))
        stop.set()
        attacker.join()
        assert content(victim) == before


def test_the_folder_of_a_living_launcher_is_left_alone(shared: Path) -> None:
    async def make() -> LocalHost:
        return LocalHost()

    host = eventloop.run(make())
    eventloop.run(host.start())
    try:
        assert host.scratch.stat().st_mode & 0o777 == 0o700
        (host.scratch / "file").touch()
        remove_stale_scratch()
        assert content(host.scratch) == ["file"]
    finally:
        host.close()
    assert content(shared) == []


@pytest.fixture
def slow_sweeper(shared: Path) -> Iterator[int]:
    """Somebody who holds the lock of a folder that a launcher has just made, and removes it."""
    (shared / STALE).mkdir(mode=0o700)
    folder = removal.open_private(str(shared / STALE))
    fcntl.flock(folder, fcntl.LOCK_EX)
    yield folder
    os.close(folder)


def test_a_folder_that_was_swept_is_known_by_its_name(slow_sweeper: int, shared: Path) -> None:
    """So a launcher that was overtaken between making and locking makes its folder again."""
    path = str(shared / STALE)
    assert removal.is_at(path, slow_sweeper)
    removal.remove_opened(path, slow_sweeper)
    assert not removal.is_at(path, slow_sweeper)
    (shared / STALE).mkdir()
    assert not removal.is_at(path, slow_sweeper)


def test_the_library_removes_by_descriptor_here() -> None:
    assert shutil.rmtree.avoids_symlink_attacks
