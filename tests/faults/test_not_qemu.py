"""Builds that are no QEMU, crash or hang: when they are asked what they can do, and as a VM.

The second sort are scripts that answer the probe by the real QEMU, and then misbehave as a VM.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qmptests.builds import Build

GARBAGE = "echo 'what would you like?' >&3; exec sleep 1000"
CRASH = "echo 'assertion failed' >&2; kill -SEGV $$"
HANG = "exec sleep 1000"
END = "exit 0"
HANGS_UP = "exec 3>&- 3<&-; exec sleep 1000"
DEAF = 'echo \'{"QMP": {"version": {}, "capabilities": []}}\' >&3; exec sleep 1000'


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "not-qemu"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return write


def in_a_hurry(module: str, **deadlines: float) -> tuple[str, str]:
    """The command with shorter deadlines: a minute is right for users and too long for tests."""
    settings = "; ".join(f"module.{name} = {value}" for name, value in deadlines.items())
    return (
        "-c",
        f"import {module} as module; {settings}; from qmptests.cli.main import main; main()",
    )


@pytest.mark.parametrize(
    ("build", "beginning"),
    [
        ("/bin/true", "/bin/true is no working QEMU: it exited with status 0 instead of"),
        ("/bin/cat", "/bin/cat is no working QEMU: it exited with status 1 instead of"),
        ("/dev/null", "/dev/null "),
        ("/", "/ has no qemu-system-* in it"),
        ("no/such/file", "'no/such/file' is no registered build, and no file or directory"),
    ],
)
def test_what_is_no_qemu(start: Callable[..., Any], build: str, beginning: str) -> None:
    command = start("migrate", "--quiet", "--source", build, "--output", "out")
    command.finish().said(2, beginning)
    assert not list(command.folder.iterdir())


@pytest.mark.parametrize(
    ("content", "mode"), [("hello\n", 0o644), ("hello\n", 0o755), ("\x7fELF", 0o755)]
)
def test_a_file_that_is_no_program(
    start: Callable[..., Any], tmp_path: Path, content: str, mode: int
) -> None:
    path = tmp_path / "text"
    path.write_text(content)
    path.chmod(mode)
    why = "Permission denied" if mode == 0o644 else "Exec format error"
    start("migrate", "--quiet", "--source", path).finish().said(
        2, f"{path} can't be executed: {why}"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CRASH, "it was killed by SIGSEGV instead of answering QMP: assertion failed"),
        (GARBAGE, "not-qemu: no QMP greeting: Did not understand Greeting"),
        (HANGS_UP, "not-qemu: no QMP greeting: end of file"),
        (HANG, "timed out after 1 s waiting for the QMP greeting from not-qemu"),
    ],
)
def test_a_program_that_is_no_qemu(
    start: Callable[..., Any], script: Callable[[str], Path], text: str, says: str
) -> None:
    path = script(text)
    python = in_a_hurry("qmptests.builds.probe", GREETING_S=1.0)
    command = start("migrate", "--quiet", "--source", path, "--output", "out", python=python)
    command.finish().said(2, f"{path} is no working QEMU: {says}")
    assert not list(command.folder.iterdir())


@pytest.mark.parametrize(
    ("side", "text", "says"),
    [
        ("source", CRASH, "source was killed by SIGSEGV while waiting for the QMP greeting"),
        ("destination", END, "destination exited with status 0 while waiting for the QMP greeting"),
        ("destination", GARBAGE, "destination: no QMP greeting: Did not understand Greeting"),
        ("source", HANG, "timed out after 1.5 s waiting for the QMP greeting from source"),
        ("destination", DEAF, "timed out after 1.5 s waiting for the QMP greeting from dest"),
    ],
    ids=["crash", "end", "garbage", "hang", "deaf"],
)
def test_a_qemu_that_fails_as_a_vm(
    start: Callable[..., Any],
    script: Callable[[str], Path],
    source_build: "Build",
    side: str,
    text: str,
    says: str,
) -> None:
    probed = " ".join([*(f"{k}={shlex.quote(v)}" for k, v in source_build.env.items()), "exec"])
    real = shlex.join(source_build.argv)
    path = script(f'case "$*" in *"-machine none"*) {probed} {real} "$@";; esac\n{text}')
    sides = {"source": source_build.spec, "destination": source_build.spec, side: str(path)}
    command = start(
        *("migrate", "--quiet", "--output", "out", "--vm", "none"),
        *("--source", sides["source"], "--destination", sides["destination"]),
        python=in_a_hurry("qmptests.vm.vm", START_S=1.5),
    )
    ended = command.finish()
    assert ended.status == 1, ended
    assert ended.err == ""
    reasons = [line for line in ended.out.splitlines() if line.startswith("because")]
    assert len(reasons) == 1, ended
    assert reasons[0].removeprefix("because").strip().startswith(says), ended
    result = "crashed" if text is CRASH else "start-failed"
    assert f"result       {result}" in ended.out
    assert (command.folder / "out" / "outcome.json").exists()
    assert ended.seconds < 6, ended
