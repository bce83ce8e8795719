"""A person at a terminal: a pause that waits for them, and a debugger that they can type into."""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmptests.outcome import Result, folder
from qmptests.outcome.record import OutcomeRecord

Start = Callable[..., Any]

#: What is not expected, so that a migration that completes is paused.
FAILING = ("--vm", "none", "--expect", "cancelled", "--pause-on-failure")
#: Makes the terminal on its standard input its own, and becomes the command that follows.
OWN_TERMINAL = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """`qmptests migrate ARGUMENTS` on a terminal of its own."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        self.cwd = cwd
        self.screen = ""
        self.master, slave = os.openpty()
        command = [sys.executable, "-m", "qmptests.cli.main", "migrate", *arguments]
        self.popen = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *command],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        self.slave = slave

    def until(self, pattern: str) -> "re.Match[str]":
        """What the screen shows, once it matches."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.screen, re.DOTALL)):
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"waited for {pattern!r}: {self.screen}"
            self.screen += os.read(self.master, 65536).decode().replace("\r\n", "\n")
        return found

    def type(self, text: str) -> None:
        self.screen = ""
        os.write(self.master, text.encode())

    def end(self) -> int:
        return self.popen.wait(timeout=60)

    def outcome(self) -> OutcomeRecord:
        return folder.load(self.cwd / "out")

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def at_terminal(tmp_path: Path, source_build: Any, destination_build: Any) -> Iterator[Start]:
    opened: list[Terminal] = []
    sides = ["--source", source_build.spec, "--destination", destination_build.spec]

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal([*sides, "--output", "out", *arguments], tmp_path))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


class Person:
    """Someone with a QMP shell on a socket that the pause named."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(30)
        self._sock.connect(path)
        self._file = self._sock.makefile("rw")
        assert "QMP" in json.loads(self._file.readline())
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> Any:
        self._file.write(json.dumps({"execute": command}))
        self._file.flush()
        while True:
            message = json.loads(self._file.readline())
            if "return" in message:
                return message["return"]

    def leave(self) -> None:
        self._file.close()
        self._sock.close()


def sockets(text: str) -> list[str]:
    """The paths that the pause named, the source's first."""
    return re.findall(r"^(?:source|destination) +pid \d+, QMP at (\S+)$", text, re.MULTILINE)


def test_a_pause_waits_for_enter_and_the_outcome_stays_what_it_was(at_terminal: Start) -> None:
    terminal = at_terminal(*FAILING)
    shown = terminal.until("paused: .*press Enter[^\n]*\n")[0]
    assert shown.startswith("paused: completed (expected: cancelled)\n")
    people = [Person(path) for path in sockets(shown)]
    states = [person.execute("query-status")["status"] for person in people]
    for person in people:
        person.leave()
    assert states == ["postmigrate", "running"]
    assert terminal.popen.poll() is None
    terminal.type("\n")
    terminal.until("result +completed")
    assert terminal.end() == 1
    record = terminal.outcome()
    ends = [side.exit for side in (record.source, *record.destinations) if side is not None]
    assert [(end.returncode, end.asked) for end in ends if end] == [(0, True), (0, True)]


def test_a_failed_migration_pauses_with_what_still_lives(at_terminal: Start) -> None:
    terminal = at_terminal("--vm", "none", "--destination-args=-m 512", "--pause-on-failure")
    shown = terminal.until("paused: .*press Enter[^\n]*\n")[0]
    assert shown.startswith("paused: failed-destination-exited (expected: completed): ")
    assert len(sockets(shown)) == 1
    assert "destination  exited with status 1" in shown
    terminal.type("\n")
    assert terminal.end() == 1
    assert terminal.outcome().result is Result.FAILED_DESTINATION_EXITED
    assert terminal.outcome().source_ran_on


def read_until(command: Any, words: str) -> str:
    """What it wrote to stderr, up to a line that begins so."""
    text = ""
    for line in command.popen.stderr:
        text += str(line)
        if line.startswith(words):
            return text
    raise AssertionError(text)


def test_without_a_terminal_a_pause_ends_with_both_processes(migrate: Start) -> None:
    command = migrate(*FAILING)
    shown = read_until(command, "go on")
    for path in sockets(shown):
        person = Person(path)
        person.execute("quit")
        person.leave()
    assert command.finish().status == 1
    record = folder.load(command.folder / "out")
    assert record.result is Result.COMPLETED
    assert record.source is not None
    assert record.source.exit is not None
    assert not record.source.exit.asked


def test_ctrl_c_ends_a_pause_and_what_was_found_stays(migrate: Start) -> None:
    command = migrate(*FAILING)
    read_until(command, "go on")
    command.interrupt(signal.SIGINT)
    assert command.finish().status == 130
    assert folder.load(command.folder / "out").result is Result.COMPLETED


def test_what_is_expected_does_not_pause(migrate: Start) -> None:
    ended = migrate("--vm", "none", "--pause-on-failure").finish()
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize(
    "script",
    [
        "sleep 1000; :",  # no QEMU: a greeting that never comes
        '"$@"; sleep 1000; :',  # one that stays, as gdb does, when QEMU has quit
    ],
    ids=["at the start", "at the end"],
)
def test_ctrl_c_ends_a_wrapper_that_has_no_deadline(migrate: Start, script: str) -> None:
    wrapper = f"sh -c '{script}' sh"
    command = migrate("--vm", "none", "--wrapper", wrapper)
    command.until(
        lambda: [w.startswith("sleep") for w in command.running().values()].count(True) == 2,
        "both wrappers to hang",
    )
    command.interrupt(signal.SIGINT)
    assert command.finish().status == 130


def test_a_person_can_type_into_gdb(at_terminal: Start) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("no gdb here")
    script = 'test {side} = source || exec "$@"; exec gdb -q -nx --args "$@"'
    terminal = at_terminal("--vm", "none", "--quiet", "--wrapper", f"sh -c '{script}' sh")
    before = termios.tcgetattr(terminal.slave)
    terminal.until(r"\(gdb\) ")
    terminal.type("set pagination off\nset confirm off\nhandle SIGUSR1 nostop noprint pass\nrun\n")
    terminal.until(r"exited normally.*\(gdb\) ")
    terminal.type("quit\n")
    terminal.until("result +completed")
    assert terminal.end() == 0
    assert terminal.outcome().result is Result.COMPLETED
    assert termios.tcgetattr(terminal.slave) == before


def test_a_killed_debugger_leaves_the_terminal_as_it_was(at_terminal: Start) -> None:
    """The wrapper switches echo off, as gdb does at its prompt, and never switches it on again."""
    terminal = at_terminal("--vm", "none", "--wrapper", "sh -c 'stty -echo; echo off; sleep 9' sh")
    terminal.until("off")
    os.killpg(terminal.popen.pid, signal.SIGINT)
    assert terminal.end() == 130
    assert termios.tcgetattr(terminal.slave)[3] & termios.ECHO
