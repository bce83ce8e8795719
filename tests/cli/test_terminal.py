"""Whatever text of outside a command shows, it steers no terminal."""

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests import jsontext
from qmptests.cli.commands import cli
from qmptests.cli.terminal import Screen
from qmptests.hosts import launcher, strays
from qmptests.vfio import alone

#: A window's title, the clipboard, a cleared screen, C1 as a byte and as a character, and an order
#: of characters that is not the one of the text.
ODD = "\x1b]0;x\x07\x1b]52;c;eA==\x1b\\\x1b[2J\x9b2J\udc9b\u202e\u2066\x7f\x00[bold]"
#: In arguments and JSON files: without what neither can have.
ODD_NAME = ODD.replace("\x00", "").replace("\udc9b", "")
#: Runs many commands in one process, each as `main` would.
DRIVER = """
import json, os, sys
from qmptests.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["qmptests", *arguments]
    try:
        main.main()
    except SystemExit as end:
        print("status", end.code, flush=True)
"""


def leaves(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command with the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


def shown(data: bytes) -> str:
    """What was written, which must hold nothing that steers but our own line of progress."""
    text = data.decode()
    rest = text.replace("\r\x1b[K", "").replace("\r\n", "\n")
    odd = sorted({c for c in rest if not c.isprintable() and c not in "\n\t"})
    assert odd == [], [line for line in rest.split("\n") if any(c in line for c in odd)][:5]
    return text


def drive(commands: list[list[str]], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    return shown(done.stdout)


def test_no_argument_of_any_command_does(tmp_path: Path) -> None:
    """One that is refused is quoted in the error."""
    commands = []
    for path, command in leaves(cli):
        commands.append([*path, f"--{ODD_NAME}"])
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        if path[0] != "bisect-run":
            commands.append([*path, *[ODD_NAME] * max(1, len(arguments))])
        commands += [
            [*path, f"{option.opts[0]}={ODD_NAME}", "--source=no-such"]
            for option in command.params
            if path[0] in ("migrate", "matrix")
            and isinstance(option, click.Option)
            and not option.is_flag
            and option.name not in ("output", "json_file", "junit", "wrapper", "args")
        ]
    assert len(commands) > 50
    text = drive(commands, tmp_path)
    assert text.count("status ") >= len(commands), text
    assert "Traceback" not in text
    assert text.count(r"\x1b]0;x\x07\x1b]52;c;eA==") > 30, text


TOML = f"""
memory = "64M"
machine = "q35"
devices = ["{ODD_NAME.encode("unicode_escape").decode().replace("[", "{")}"]
"""


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a migration that QEMU refused with words of ours, in whose files there are more."""
    folder = tmp_path_factory.mktemp("terminal") / "out"
    builds = ("--source=debian:trixie-backports", "--vm=none", "--device=idle")
    odd = ODD_NAME.replace("'", "")
    said = subprocess.run(
        [
            *(sys.executable, "-m", "qmptests.cli.main", "migrate", *builds, f"--output={folder}"),
            f"--destination-args=-device '{odd}'",
            f"--wrapper=sh -c 'printf %s\\\\n \"$0\" >&2; exec \"$@\"' '{odd}'",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    text = shown(said.stdout)
    assert said.returncode == 1, text
    assert r"\x1b]0;x\x07" in text
    return folder


def test_words_of_qemu_do_not(evidence: Path) -> None:
    assert b"\x1b]0;x" in (evidence / "destination.stderr.log").read_bytes()


def poisoned(folder: Path) -> None:
    """Texts of the outcome, and lines of the logs, that a hostile program could have written."""
    file = folder / "outcome.json"
    outcome: dict[str, Any] = json.loads(file.read_bytes())
    for side in (outcome["source"], *outcome["destinations"]):
        side["stderr_tail"] = [ODD_NAME]
        side["runstate"] = ODD_NAME
        for key in side["build"]:
            side["build"][key] = {ODD_NAME: ODD_NAME} if key == "origin" else ODD_NAME
    for key in ("error", "name", "cell", "last_phase"):
        outcome[key] = ODD_NAME
    outcome["error_tail"] = outcome["evidence_problems"] = [ODD_NAME]
    outcome["plan"] |= {"machine": ODD_NAME, "parameters": {ODD_NAME: ODD_NAME}}
    outcome["plan"]["expected"] = outcome["host"]["cpu"] = ODD_NAME
    file.write_bytes(msgspec.json.encode(outcome))
    event = {"event": ODD_NAME, "timestamp": {"seconds": 1, "microseconds": 0}}
    event["data"] = {"status": ODD_NAME, ODD_NAME: ODD_NAME}
    for side in ("source", "destination"):
        with (folder / f"{side}.qmp.jsonl").open("ab") as qmp:
            qmp.write(msgspec.json.encode({"time": 1.0, "received": event}) + b"\n")
        with (folder / f"{side}.trace.log").open("ab") as trace:
            text = f"migrate_set_state new state {ODD_NAME}\n{ODD_NAME}\n"
            trace.write(text.encode() + b"migrate_error error=\x9b2J\x1b[2J\n")
        with (folder / f"{side}.vfio.jsonl").open("ab") as calls:
            call = {"at": 1, "device": ODD_NAME, "call": ODD_NAME, "result": ODD_NAME}
            calls.write(msgspec.json.encode(call) + b"\n")


def test_no_file_that_a_command_reads_does(evidence: Path, tmp_path: Path) -> None:
    poisoned(evidence)
    (tmp_path / "odd.toml").write_text(TOML)
    (tmp_path / "no.toml").write_text(f"[guest]\nkind = '''{ODD_NAME.replace(chr(127), '')}'''")
    other = tmp_path / ODD_NAME
    other.mkdir()
    for name in ("results.json", "cells.json", "builds.json", "outcome.json"):
        (other / name).write_text(json.dumps({"schema": ODD_NAME, "items": ODD_NAME}))
    out = str(evidence)
    text = drive(
        [
            ["timeline", out],
            ["timeline", out, "--json"],
            ["timeline", out, "--downtime"],
            ["timeline", out, "--downtime", "--json"],
            ["vfio", "trace", out],
            ["vfio", "trace", out, "--json"],
            ["trace", "diff", f"{out}/source.trace.log", f"{out}/destination.trace.log"],
            ["trace", "diff", "--json", f"{out}/source.trace.log", f"{out}/destination.trace.log"],
            ["report", out],
            ["report", str(evidence.parent)],
            ["report", out, "--compare", out],
            ["report", str(other)],
            ["timeline", str(other)],
            ["migrate", "--vm", "odd.toml", "--source", "debian:trixie", "--output", "o"],
            ["migrate", "--vm", "no.toml", "--source", "debian:trixie"],
            ["matrix", "--list", "--json", "--vm", "odd.toml", "--build", "debian:trixie"],
            ["matrix", "--known-issues", "odd.toml", "--build", "debian:trixie"],
            ["vfio", "run", "--device", "odd.toml", "--", "true"],
            ["vfio", "run", "--device", "idle", "--", "sh", "-c", "exit 3"],
        ],
        tmp_path,
    )
    assert "Traceback" not in text, text[text.index("Traceback") :]
    assert text.count(r"\x1b]0;x\x07") + text.count(r"\u001b]0;x\u0007") > 20


@pytest.mark.parametrize("command", [["doctor"], ["--help"], ["builds", "list"]], ids=" ".join)
def test_what_a_command_says_of_itself_has_nothing_to_be_shown(
    command: list[str], tmp_path: Path
) -> None:
    """Our own colours are no text of outside, and are for a terminal."""
    driver = [sys.executable, "-c", DRIVER, json.dumps([command])]
    environment = {**os.environ, "QMPTESTS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(driver, capture_output=True, env=environment, timeout=120, check=False)
    assert "\\x1b" not in shown(done.stdout + done.stderr)
    master, slave = pty.openpty()
    on_terminal = subprocess.Popen(driver, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    told = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while data := os.read(master, 1 << 16):
            told += data
    os.close(master)
    on_terminal.wait(120)
    assert b"\\x1b" not in told
    if command == ["doctor"]:
        assert b"\x1b[32mok" in told


@given(st.text(), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_a_screen_shows_all_text_in_any_encoding(text: str, encoding: str) -> None:
    under = io.BytesIO()
    screen = Screen(io.TextIOWrapper(under, encoding=encoding, newline="\n"))
    screen.write(text)
    screen.writelines([text])
    screen.buffer.write(text.encode(errors="replace"))
    screen.flush()
    assert all(c.isprintable() or c in "\n\t" for c in under.getvalue().decode(encoding))


@given(st.dictionaries(st.text(), st.text()))
def test_json_means_the_same_and_is_printable(value: dict[str, str]) -> None:
    data = jsontext.encode(value)
    assert json.loads(data) == value
    assert jsontext.escaped(data) == data
    assert all(c.isprintable() or c == "\n" for c in data.decode())


def test_json_of_another_writer_too() -> None:
    text = json.dumps({ODD_NAME: ODD_NAME}, ensure_ascii=False).encode() + b"\r\n"
    assert json.loads(jsontext.escaped(text)) == {ODD_NAME: ODD_NAME}
    assert all(c.isprintable() or c == "\n" for c in jsontext.escaped(text).decode())


def test_the_supervisor_of_a_command_says_it_too(capfd: pytest.CaptureFixture[str]) -> None:
    alone.say(ODD)
    said = capfd.readouterr().err
    assert re.fullmatch(r"qmptests: \\x1b\]0;x.*\[bold\]\n", said)
    assert said[:-1].isprintable()


def test_nor_does_the_name_of_a_process_that_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    """A program chooses its own."""
    ours, theirs = os.pipe()
    launcher.say_left([ODD], [], ours, -1)
    strays.complain(ODD)
    lines = capfd.readouterr().err.split("\n")
    assert sum(r"\x1b]0;x\x07" in line for line in lines) == 2
    assert all(line.isprintable() for line in lines)
    os.close(ours)
    os.close(theirs)
