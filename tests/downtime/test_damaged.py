"""Logs with what no QEMU and no device writes: left out or shown as it is, never an error."""

import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from qmptests.downtime import clocks, reading
from qmptests.downtime.moments import Moment, Witness
from qmptests.errors import InputError
from qmptests.trace import parser
from qmptests.vfio import calls_read


def moments(read: Callable[..., Any], path: Path, *arguments: object) -> list[Moment]:
    told: list[tuple[str, str]] = []
    tell = lambda *said: told.append(said)  # noqa: E731
    return list(chain.from_iterable(read(path, "source", (), *arguments, tell)))


@pytest.mark.parametrize("identity", ["{}", "[]", '{"a": []}', "null", "1e300"])
def test_any_id_of_a_command_has_its_answer(tmp_path: Path, identity: str) -> None:
    path = tmp_path / "source.qmp.jsonl"
    path.write_text(
        f'{{"time": 1, "sent": {{"execute": "stop", "id": {identity}}}}}\n'
        f'{{"time": 2, "received": {{"return": {{}}, "id": {identity}}}}}\n'
    )
    assert [m.name for m in moments(reading.qmp, path, ())] == ["stop", "stop"]


@pytest.mark.parametrize("time", ["-1", "1e300", "1e12", "1e999", '"1"', "null", "9" * 30])
def test_a_time_that_is_none_is_no_line(tmp_path: Path, time: str) -> None:
    path = tmp_path / "source.qmp.jsonl"
    path.write_text(f'{{"time": {time}, "sent": {{"execute": "stop"}}}}\n')
    assert moments(reading.qmp, path, ()) == []


def test_an_argument_that_is_no_number_counts_nothing() -> None:
    text = "type=load idstr=ram instance_id=0 downtime=17@17:x"
    moment = Moment(5, "source", Witness.TRACE, "vmstate_downtime_save", text)
    side: Any = type("Side", (), {"moments": lambda *_: [moment]})()
    assert list(clocks._sections(side, "vmstate_downtime_save", begin=True)) == [("load ram 0", 5)]


def test_texts_that_are_held_back_are_short(tmp_path: Path) -> None:
    path = tmp_path / "source.guest.jsonl"
    path.write_text(f'{{"at": 1, "noise": "{"x" * 1_000_000}"}}\n')
    (moment,) = moments(reading.guest, path)
    assert len(moment.text) == reading.LONGEST_TEXT


def test_a_pipe_and_an_endless_device_hold_nobody_up(tmp_path: Path) -> None:
    pipe, device, huge = (tmp_path / name for name in ("pipe", "device", "huge"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    for path in (pipe, device, huge):
        with pytest.raises(InputError, match="can't read the trace log"):
            list(parser.read_batches(path))
        with pytest.raises(InputError, match="can't read"):
            moments(reading.qmp, path, ())
        with pytest.raises(InputError, match="can't read the call log"):
            calls_read.header(path)
        with pytest.raises(OSError, match=r"not an ordinary file|larger than"):
            calls_read.is_whole(path)
