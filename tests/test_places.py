"""Folders in which others can put their files: what we use of them, and what we refuse."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qmptests import dirs, files, places
from qmptests.cli.migrate import check_writable, default_folder
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.hosts import LocalHost
from qmptests.migration import cores
from qmptests.outcome import folder

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def as_nobody(path: Path) -> Path:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir(0o755)
    return folder


@pytest.mark.parametrize(
    ("mode", "exposed", "with_sticky"),
    [
        (0o700, False, False),
        (0o755, False, False),
        (0o775, False, False),  # who is in the group was let in
        (0o777, True, True),
        (0o1777, True, False),
    ],
)
def test_where_everybody_may_write(
    place: Path, mode: int, exposed: bool, with_sticky: bool
) -> None:
    place.chmod(mode)
    assert bool(places.exposed(place)) == exposed
    assert bool(places.exposed(place, sticky=True)) == with_sticky


def test_a_folder_that_is_not_there_is_ours_to_make(place: Path) -> None:
    assert places.exposed(place / "a" / "b") == ""


@needs_root
def test_another_users_folder_and_links(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(place)
    assert places.exposed(link) == ""
    assert places.exposed(link / "below") == ""
    as_nobody(link)
    assert places.exposed(link) == f"{link} is a link of user {NOBODY}'s"
    assert places.exposed(link / "below") == f"{link} is a link of user {NOBODY}'s"
    as_nobody(place)
    assert places.exposed(place, sticky=True) == f"{place} belongs to user {NOBODY}"


# --- the cache ----------------------------------------------------------------------------------


def test_a_cache_that_everybody_can_write_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMPTESTS_CACHE", str(place))
    assert dirs.cache_dir() == place
    for mode in (0o777, 0o1777):
        place.chmod(mode)
        with pytest.raises(EnvironmentFailure, match=r"everybody may write in .*QMPTESTS_CACHE"):
            dirs.cache_dir()


def test_a_new_cache_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where everything that is made may be written by everybody."""
    monkeypatch.setenv("QMPTESTS_CACHE", str(tmp_path / "a" / "cache"))
    before = os.umask(0)
    try:
        dirs.make_in_cache(dirs.cache_dir() / "builds" / "seen")
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700
    assert (dirs.cache_dir() / "builds" / "seen").is_dir()


#: `./run` of a checkout that its user can't write, which works in a copy of it.
COPIES = """
import runpy, sys
sys.path[:0] = {path!r}
run = runpy.run_path({run!r})
from pathlib import Path
sys.argv = ["run", "true"]
run["writable"].__globals__["os"].access = lambda path, mode: False
sys.exit(run["main"]())
"""


@needs_root
@pytest.mark.parametrize("planted", ["cache", "link"])
def test_what_another_user_has_planted_for_the_copy_of_a_checkout_stays(
    place: Path, tmp_path: Path, planted: str
) -> None:
    """The copy's name can be foretold; a copy that is out of date is emptied."""
    root = Path(__file__).parents[1]
    place.chmod(0o1777)
    cache, victim = place / "cache", tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    if planted == "link":
        as_nobody_link = cache
        as_nobody_link.symlink_to(victim)
        as_nobody(as_nobody_link)
    else:
        (cache / "checkouts").mkdir(parents=True)
        name = __import__("hashlib").sha256(bytes(root)).hexdigest()[:16]
        (cache / "checkouts" / name).symlink_to(victim)
        as_nobody(cache)
    code = COPIES.format(path=sys.path, run=str(root / "run"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "QMPTESTS_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "the cache is not safe to use" in done.stderr
    assert [path.name for path in victim.iterdir()] == ["precious"]


# --- the temporary directory --------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "used"), [(0o1777, True), (0o700, True), (0o777, False)])
def test_a_temporary_directory_whose_names_others_can_change_is_not_used(
    monkeypatch: pytest.MonkeyPatch, place: Path, mode: int, used: bool
) -> None:
    module = sys.modules[LocalHost.__module__]
    monkeypatch.setattr(module, "TMPDIR_BYTES", 1000)
    place.chmod(mode)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    assert (module._temporary_directory() == place) == used


def test_if_there_is_no_better_one_it_is_used(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    module = sys.modules[LocalHost.__module__]
    monkeypatch.setattr(module, "TMPDIR_BYTES", 1000)
    monkeypatch.setattr(places, "exposed", lambda *_, **__: "it is")
    monkeypatch.setattr("tempfile.tempdir", str(place))
    assert module._temporary_directory() == place


# --- results, and core dumps --------------------------------------------------------------------


@needs_root
def test_default_results_do_not_go_where_another_user_leads_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert default_folder("x").parent == Path("qmptests-results")
    Path("qmptests-results").mkdir()
    as_nobody(place / "qmptests-results")
    with pytest.raises(InputError, match=r"belongs to user 65534: name another .*--output"):
        default_folder("x")


def test_a_core_dump_is_an_ordinary_file_of_ours(place: Path, tmp_path: Path) -> None:
    since = time.time() - 10
    (tmp_path / "secret").touch()
    (place / "core.1").symlink_to(tmp_path / "secret")
    (place / "core.2").mkdir()
    assert cores.newest(str(place / "core.*"), since) is None
    (place / "core.3").touch()
    assert cores.newest(str(place / "core.*"), since) == place / "core.3"
    if os.geteuid() == 0:
        (place / "core.4").touch()
        os.utime(as_nobody(place / "core.4"), (time.time() + 5, time.time() + 5))
        assert cores.newest(str(place / "core.*"), since) == place / "core.3"


@needs_root
def test_no_file_is_written_and_no_results_are_made_through_another_users_link(
    place: Path, tmp_path: Path
) -> None:
    """In a folder such as /tmp the kernel may refuse that too (fs.protected_symlinks)."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    link, way = place / "link", place / "way"
    link.symlink_to(precious)
    way.symlink_to(tmp_path)
    for mine in (link, way):
        as_nobody(mine)
    for path in (link, way / "precious"):
        with pytest.raises(EnvironmentFailure, match="is a link of user 65534's"):
            files.write(path, b"x")
        with pytest.raises(InputError, match="is a link of user 65534's"):
            check_writable(path)
    for make in (folder.make, folder.begin):
        with pytest.raises(InputError, match="is a link of user 65534's"):
            make(way / "results")
    assert precious.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "precious"]


@needs_root
def test_a_file_does_not_get_the_mode_of_another_users(place: Path) -> None:
    path = place / "out.json"
    path.touch()
    path.chmod(0o666)
    files.write(path, b"x")
    assert path.stat().st_mode & 0o777 == 0o666
    as_nobody(path)
    files.write(path, b"x")
    assert (path.stat().st_uid, path.stat().st_mode & 0o022) == (0, 0)


def test_a_pipe_that_nobody_reads_is_not_waited_for(place: Path) -> None:
    path = place / "pipe"
    os.mkfifo(path)
    with pytest.raises(EnvironmentFailure, match="nobody reads from this pipe"):
        files.write(path, b"x")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    files.write(path, b"x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)


def test_what_a_shell_gives_for_a_command_is_written_to() -> None:
    """Of `>(command)`: a pipe without a name."""
    reader, writer = os.pipe()
    files.write(Path(f"/dev/fd/{writer}"), b"x")
    os.close(writer)
    assert os.read(reader, 9) == b"x"
    os.close(reader)
