"""A file that loses lines says how many, and holds only whole ones."""

import json
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.kept import Kept
from qmptests.trace.jsonl import JsonLog

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@contextmanager
def no_longer_than(size: int) -> Iterator[None]:
    """No file grows beyond that: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def line(number: int, size: int) -> bytes:
    return json.dumps({"n": number, "x": "x" * size}).encode() + b"\n"


@given(
    st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=4), min_size=1, max_size=20),
    st.integers(0, 600),
    st.integers(0, 20),
)
def test_every_line_is_there_or_counted(batches: list[list[int]], room: int, until: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        kept = Kept(lambda: os.open(path, FLAGS, 0o600))
        number = 0
        for place, batch in enumerate(batches):
            data = b"".join(line(number + n, size) for n, size in enumerate(batch))
            number += len(batch)
            if place < until:
                with no_longer_than(room):
                    kept.append(data)
            else:
                kept.append(data)
        kept.close()
        kept.close()
        entries = [json.loads(text) for text in path.read_bytes().splitlines()]
        log = JsonLog(path, json.loads, "test's")
        read = [entry["n"] for entry in log]
    told = sum(entry["lost"] for entry in entries if "lost" in entry)
    assert len(read) + told == number
    assert told == kept.lost
    assert read == sorted(read)
    many = f"{told} line{'s' * (told != 1)}"
    assert kept.problem == (f"lost {many}: File too large" if told else "")
    assert log.problems == ([f"x.jsonl: {kept.problem}"] if told else [])


def test_lines_that_never_find_room_are_counted_all_the_same() -> None:
    kept = Kept(lambda: os.open("/dev/full", os.O_WRONLY))
    kept.append(b"one\ntwo\n")
    kept.append(b"three\n")
    kept.close()
    assert kept.problem == "lost 3 lines: No space left on device"


def test_a_descriptor_is_closed_though_nothing_was_written(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "x", FLAGS, 0o600)
    kept = Kept(descriptor)
    kept.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    kept.append(b"one\n")
    assert kept.problem == "lost 1 line: closed"


def test_what_somebody_takes_away_is_told(tmp_path: Path) -> None:
    paths = {how: tmp_path / how for how in ("left", "cut", "removed")}
    files = {how: Kept(partial(os.open, path, FLAGS, 0o600)) for how, path in paths.items()}
    for kept in files.values():
        kept.append(b"one\n")
    os.truncate(paths["cut"], 0)
    paths["removed"].unlink()
    for how, kept in files.items():
        kept.append(b"two\n")
        said = f"was {how} while it was written" if how != "left" else ""
        assert kept.problem == said
        kept.close()
        assert kept.problem == said


def test_a_file_that_can_not_be_opened_yet_is_tried_again(tmp_path: Path) -> None:
    place = tmp_path / "later"
    kept = Kept(lambda: os.open(place / "log", FLAGS, 0o600), lambda n, _: f"[{n}]\n".encode())
    kept.append(b"one\n")
    place.mkdir()
    kept.append(b"two\n")
    kept.close()
    assert (place / "log").read_text() == "[1]\ntwo\n"
    assert kept.problem == "lost 1 line: No such file or directory"


@pytest.mark.parametrize("text", [b'{"lost": 1}\n', b'{"lost":"x","why":1}\n'])
def test_a_line_that_only_looks_like_a_gap_is_somebody_elses(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(text)
    log: JsonLog[object] = JsonLog(path, lambda _: None, "test's")
    assert list(log) == []
    assert log.problems == ["x: one line is no test's and left out, the first is line 1"]
