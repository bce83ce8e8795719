"""What the guest says is kept: each byte, and when it said what."""

import json
import socket
import time
from pathlib import Path

from qmptests import eventloop
from qmptests.guests.console import DirtierConsole
from qmptests.vm.console import Console

BANNER = "dirtier v1 start=00100000 length=01000000 seed=00000000"


def said(tmp_path: Path, *pieces: str) -> tuple[Console, int, int]:
    """A console that was sent these pieces and closed; when that began and ended."""

    async def go() -> tuple[Console, int, int]:
        ours, qemus = socket.socketpair()
        console = Console(ours, tmp_path / "log", tmp_path / "times", DirtierConsole())
        begin = time.time_ns() // 1000
        with qemus:
            for piece in pieces:
                qemus.send(piece.encode())
        console.close()
        return console, begin, time.time_ns() // 1000

    return eventloop.run(go())


def test_what_the_guest_said_and_when_is_a_line_each(tmp_path: Path) -> None:
    text = f"?\n{BANNER}\nc=00000001 p=00000050\nc=00000002 p=000000a2\n{BANNER}\nc=0000"
    console, begin, end = said(tmp_path, text)
    lines = [json.loads(line) for line in (tmp_path / "times").read_text().splitlines()]
    assert all(begin <= line.pop("at") <= end for line in lines)
    assert lines == [
        {"noise": "?"},
        {"started": BANNER},
        {"reported": 1, "pages": 0x50},
        {"reported": 2, "pages": 0xA2},
        {"rebooted": BANNER},
    ]
    assert (tmp_path / "log").read_text() == text
    assert console.problems == {}


def test_a_guest_that_says_nothing_leaves_no_files(tmp_path: Path) -> None:
    said(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_written_is_a_problem_and_costs_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "times").mkdir()
    console, *_ = said(tmp_path, f"{BANNER}\nc=00000001 p=00000050\n")
    assert {path.name: problem for path, problem in console.problems.items()} == {
        "times": "lost 2 lines: Is a directory",
    }
    assert console.reports == 1
    assert (tmp_path / "log").exists()
