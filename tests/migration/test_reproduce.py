"""`reproduce.sh` holds text of outside, and executes none of it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmptests.migration import reproduce
from qmptests.outcome import OutcomeRecord, Result
from qmptests.outcome.record import (
    BuildRecord,
    GuestRecord,
    HostRecord,
    PlanRecord,
    SideRecord,
    TraceRecord,
)

#: What ends something: a comment, a here-document, a string of Python's, a word of the shell.
ENDINGS = [
    "\n{}\n#",
    "\r{}\r",
    "\u2028{}\u2028",
    "\nEND_OF_SCRIPT\n{}\n",
    '"""\n)\n__import__("os").system("{}")\n"""',
    "'''\n__import__('os').system('{}')\n'''",
    "'; {}; '",
    '"; {}; "',
    "$({})",
    "`{}`",
    "\\",
    "\x00{}",
    "%s{}%(x)s{{plan}}",
]


def side(name: str, text: str, argv: list[str]) -> SideRecord:
    build = BuildRecord(
        name=text, spec=text, version=text, version_text=text, digest=text, origin={text: text}
    )
    return SideRecord(
        name=name,
        build=build,
        argv=argv,
        environment={f"A{text.replace('=', '')}": text},
        trace=TraceRecord(enabled=[], unmatched=[]),
        guest=GuestRecord(),
    )


def record(text: str, argv: list[str]) -> OutcomeRecord:
    """An outcome with `text` wherever something of outside can be."""
    plan = PlanRecord(
        machine=text,
        accelerator=text,
        definition={text: text},
        capabilities={},
        parameters={text: text},
        transport="unix",
        address_form="uri",
        trace=[text],
        expected=text,
        timeout_s=1.0,
        wrapper=[text, text],
    )
    host = HostRecord(
        hostname=text, kernel=text, cpu=text, cpus=1, memory_bytes=1, python=text, load_1min=0.0
    )
    return OutcomeRecord(
        qmptests=text,
        name=text,
        created=0.0,
        host=host,
        plan=plan,
        source=side("source", text, argv),
        destinations=[side("destination", text, argv)],
        result=Result.CRASHED,
        error=text,
    )


def run(command: list[str], cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check_only_quotes(text: str, folder: Path) -> None:
    """The shell gives a Python its whole program, which has the text as data, and no more."""
    canary, told = folder / "canary", folder / "told"
    text = text.replace("{}", f"touch {canary}")
    stub = folder / "bin" / "python3"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{told}.args\ncat >{told}\n')
    stub.chmod(0o755)
    commands: list[dict[str, Any]] = [
        {"side": "source", "execute": text, "arguments": {text: text}}
    ]
    reproduce.write(folder, folder / "final", record(text, ["qemu", text]), commands)

    result = run([str(folder / "reproduce.sh")], folder, PATH=f"{stub.parent}:{os.environ['PATH']}")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert Path(f"{told}.args").read_text().splitlines()[-1] == str(folder / "reproduce.sh")
    program = told.read_text()
    compile(program, "reproduce.sh", "exec")
    scope: dict[str, Any] = {"__name__": "script"}
    exec(program.rpartition("\nsys.exit(")[0], scope)  # noqa: S102 - all but its last line
    plan = json.loads(scope["PLAN"])
    assert plan["argv"] == {"source": ["qemu", text], "destination": ["qemu", text]}
    assert plan["commands"] == commands
    assert not canary.exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_text_that_ends_what_it_stands_in_is_only_quoted(ending: str, tmp_path: Path) -> None:
    check_only_quotes(ending, tmp_path)


@settings(deadline=None, max_examples=15)
@given(st.text(st.characters() | st.sampled_from("\n\r'\"\\`$;&|<>{}()#\t %"), min_size=1))
def test_any_text_is_only_quoted(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_only_quotes(text, Path(folder))


def test_no_line_of_the_script_steers_a_terminal(tmp_path: Path) -> None:
    text = "\x1b]0;title\x07 \x9b2J \u202e \u2028 \x7f"
    reproduce.write(tmp_path, tmp_path, record(text, [text]), [])
    lines = (tmp_path / "reproduce.sh").read_text().split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert f"# source:      {ascii(text)[1:-1]}" in lines


@pytest.mark.parametrize("name", ["plain", "-e", "new\nline\n", "a,b", "$(touch canary)", "é 'x'"])
@pytest.mark.parametrize("by", ["relative", "absolute", "sh"])
def test_the_folder_is_known_wherever_it_lies(name: str, by: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    show = "import json, os, sys; print(json.dumps([*map(os.path.realpath, sys.argv[1:])]))"
    argv = [sys.executable, "-I", "-c", show, str(folder)]
    reproduce.write(folder, folder, record("x", argv), [])
    call = {
        "relative": [f"{name}/reproduce.sh"],
        "absolute": [str(folder / "reproduce.sh")],
        "sh": ["sh", f"./{name}/reproduce.sh"],
    }[by]
    (tmp_path / "json.py").write_text("raise SystemExit('not of the standard library')")

    result = run(call, tmp_path, CDPATH="/:..:.", TMPDIR=str(tmp_path))

    assert json.dumps([str(folder)]) in result.stdout, result.stdout + result.stderr
    assert "destination ended: status 0" in result.stderr
    assert not (tmp_path / "canary").exists()


def test_what_qemu_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", r"print('\x1b[2J\u202e\x9b1m said')"]
    reproduce.write(tmp_path, tmp_path, record("x", argv), [])
    result = run([str(tmp_path / "reproduce.sh")], tmp_path, TMPDIR=str(tmp_path))
    assert r"\x1b[2J\u202e\x9b1m said" in result.stdout
    assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n"))
