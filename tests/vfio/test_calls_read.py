"""Call logs read back."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.kept import Kept
from qmptests.vfio.calllog import CallLog as Writer
from qmptests.vfio.calls import Answer
from qmptests.vfio.calls import Call as Made
from qmptests.vfio.calls_read import Call, CallLog, Note

DEVICES = {"argv": ["qemu"], "devices": [{"name": "vf0"}, {"name": "vf1"}]}
STATE = Made("set-state", detail=(("state", "stop-copy"),))
SIZE = Made("data-size")


def write(path: Path) -> None:
    """A log as a supervisor writes it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = Writer(Kept(descriptor), DEVICES)
    log.call("vf0", STATE, Answer(), 1_000_000_000)
    log.call("vf1", STATE, Answer(errno=errno.EIO), 2_000_000_000)
    for number in range(4):
        log.call("vf0", SIZE, Answer(detail=(("stop_copy_length", 7),)), 3_000_000_000 + number)
    log.note("vf0", "held", call="reset")
    log.close()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "source.vfio.jsonl"
    write(path)
    log = CallLog(path)
    assert log.problems == []
    assert log.header.names == ["vf0", "vf1"]
    first, second, size, held, repeated = log.entries
    assert isinstance(first, Call)
    assert (first.at, first.device, first.call) == (1_000_000, "vf0", "set-state")
    assert (first.with_, first.answer, first.times) == ({"state": "stop-copy"}, {}, 1)
    assert isinstance(second, Call)
    assert second.answer == {"errno": "EIO"}
    assert isinstance(size, Call)
    assert size.answer == {"stop_copy_length": 7}
    assert (first.cpu_us or 0) > 0, "a change of state says what the emulation has cost so far"
    assert size.cpu_us is None
    assert isinstance(held, Note)
    assert (held.note, held.more) == ("held", {"call": "reset"})
    assert isinstance(repeated, Call)
    assert (repeated.call, repeated.times, repeated.us) == ("data-size", 3, None)
    assert repeated.until
    assert [call.device for call in log.calls("set-state")] == ["vf0", "vf1"]
    assert list(log.calls("set-state", "vf1")) == [second]


@given(st.integers(0, 2000))
def test_a_log_that_was_cut_off_anywhere_loses_its_last_line_only(cut: int) -> None:
    whole = [json.dumps({"format": 1, **DEVICES})]
    whole += [json.dumps({"at": n, "device": "vf0", "call": "reset"}) for n in range(30)]
    text = "".join(line + "\n" for line in whole)[: len(whole[0]) + 1 + cut]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_text(text)
        log = CallLog(path)
    assert len(log.entries) == text.count("\n") - 1
    assert [e.at for e in log.entries] == list(range(len(log.entries)))
    assert log.problems == (
        [] if text.endswith("\n") else ["x.jsonl: its last line is cut off and left out"]
    )


def test_lines_of_somebody_else_are_told_in_one_line_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "source.vfio.jsonl"
    write(path)
    lines = path.read_text().splitlines()
    foreign = ["no json", "[1, 2]", '{"at": "x", "device": "vf0", "call": "reset"}', "\udcff"]
    text = "\n".join([*lines[:2], *foreign, *lines[2:]]) + "\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    log = CallLog(path)
    assert len(log.entries) == 5
    assert log.problems == [
        "source.vfio.jsonl: 4 lines are no call log's and left out, the first is line 3"
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no call log of emulated devices"),
        ("hello\n", "is no call log of emulated devices"),
        ('{"at": 1, "device": "vf0"}\n', "is no call log of emulated devices"),
        ('{"format": 99}\n', "has format 99, this qmptests reads 1"),
    ],
)
def test_what_is_no_call_log_is_one_clear_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        CallLog(tmp_path / "log")
    assert "\n" not in str(caught.value)


def test_repeated_calls_and_notes_in_words() -> None:
    call = Call(5, "vf0", "data-size", answer={"stop_copy_length": 7}, times=3, until=1005)
    assert (call.name, call.text) == ("data-size", "-> stop_copy_length=7 (3 times in 1.000 ms)")
    note = Note(5, "vf0", "rule", {"words": "reset+hold", "call": "reset"})
    assert (note.name, note.text) == ("rule", "reset+hold reset")
