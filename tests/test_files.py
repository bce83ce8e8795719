"""Files that somebody damaged or put something else in the place of; and writing in one step."""

import contextlib
import os
import socket
from pathlib import Path

import msgspec
import pytest

from qmptests import files
from qmptests.errors import EnvironmentFailure, InputError


class Thing(msgspec.Struct):
    schema: int = 1
    size: float = 0
    more: dict[str, object] = {}


def put(path: Path, what: str) -> None:
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        with path.open("wb") as file:
            file.truncate(files.LARGEST + 1)


@pytest.mark.parametrize("what", ["pipe", "folder", "device", "loop", "socket", "large"])
def test_what_is_no_file_of_ours_does_not_hold_up_its_reader(tmp_path: Path, what: str) -> None:
    path = tmp_path / "thing.json"
    put(path, what)
    with pytest.raises(InputError, match=f"^no thing in {tmp_path}: "):
        files.read_json(path, Thing, "thing")


def test_the_shells_pipe_and_the_null_device_are_read() -> None:
    read, write = os.pipe()
    os.write(write, b"x = 1")
    os.close(write)
    assert files.read_bytes(Path(f"/proc/self/fd/{read}")) == b"x = 1"
    os.close(read)
    assert files.read_bytes(Path(os.devnull)) == b""


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file can have this name"):
        files.read_json(tmp_path / "a\0b", Thing, "thing")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b'{"more": {"x": "\xff"}}',
        b'{"schema": 1, "size": 1e999}',
        b'{"schema": 1, "size": 1e300}',
        b'{"schema": 1, "size": NaN}',
        b'{"schema": 1, "more": {"x": [1, %s]}}' % (b"9" * 20),
        b'{"schema": 1, "more": {"x": -%s}}' % (b"9" * 5000),
        b'{"schema": 1, "more": %s}' % (b'{"x":' * 100_000),
        b'{"schema": 1, "more": 1}',
        b'{"schema": null}',
        b'{"schema": 2}',
        b"[1]",
    ],
    ids=lambda text: repr(text[:40]),
)
@pytest.mark.parametrize("schema", [None, 1])
def test_damaged_json_is_one_line(tmp_path: Path, text: bytes, schema: int | None) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(text)
    if text == b'{"schema": 2}' and schema is None:
        assert files.read_json(path, Thing, "thing").schema == 2
        return
    with pytest.raises(InputError) as caught:
        files.read_json(path, Thing, "thing", schema=schema)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_can_be_counted_is_read(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(b'{"size": 1764541899.123456, "more": {"us": 1764541899123456789, "x": 1e3}}')
    assert files.read_json(path, Thing, "thing").more["us"] == 1764541899123456789


def test_a_file_that_can_not_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("before")
    with contextlib.suppress(RuntimeError), files.writing(path) as stream:
        stream.write("half")
        raise RuntimeError
    assert path.read_text() == "before"
    with pytest.raises(EnvironmentFailure, match=r"^cannot write .*: No such file or directory"):
        files.write(tmp_path / "nowhere" / "f", b"")
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_and_its_files_mode_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "f", tmp_path / "link"
    path.write_text("before")
    path.chmod(0o640)
    link.symlink_to(path)
    files.write(link, b"after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    assert link.is_symlink()


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    files.write(Path(os.devnull), b"x")
    assert Path(os.devnull).is_char_device()
    assert not list(tmp_path.iterdir())
