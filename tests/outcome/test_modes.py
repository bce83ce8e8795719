"""Who may read results."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.outcome import modes


@pytest.fixture(params=[0o022, 0o077, 0o000], autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.parametrize(
    "text", ["", "755 ", "0o755", "0555", "644", "07555", "rwx", "0788", "\u066755"]
)
def test_what_is_no_mode_for_a_folder_of_ones_own_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is none for a folder of yours: 0700"):
        modes.parse(text)


def test_missing_folders_get_the_mode_and_others_keep_theirs(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    modes.make(tmp_path / "a" / "b", modes.parse("0750"))
    modes.make(tmp_path / "c" / "d", modes.PRIVATE)
    names = ["", "a", "a/b", "c", "c/d"]
    assert [mode(tmp_path / name) for name in names] == ["0o711", *["0o750"] * 2, *["0o700"] * 2]
    with pytest.raises(FileExistsError):
        modes.make(tmp_path / "a", 0o700)


def test_all_of_a_folder_gets_it_and_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "folder" / "in").mkdir(parents=True)
    outside, log, script = (tmp_path / name for name in ("outside", "folder/in/log", "folder/sh"))
    for file in (outside, log, script):
        file.touch()
        file.chmod(0o664)
    script.chmod(0o775)
    (tmp_path / "folder" / "link").symlink_to(outside)
    for given, of_folder, of_log, of_script in (
        ("0700", "0o700", "0o600", "0o700"),
        ("0755", "0o755", "0o644", "0o755"),
        ("770", "0o770", "0o660", "0o770"),
    ):
        modes.give(tmp_path / "folder", modes.parse(given))
        assert mode(log.parent) == mode(tmp_path / "folder") == of_folder
        assert (mode(log), mode(script), mode(outside)) == (of_log, of_script, "0o664")
    assert oct(modes.of_files(tmp_path / "folder")) == "0o660"
