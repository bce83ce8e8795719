"""Run a tool of the packaging system so that it never outlives us."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from os import environ

import msgspec

from qmptests.errors import EnvironmentFailure


class Finished(msgspec.Struct, frozen=True):
    """How a tool ended: its exit status (negative: the signal that killed it) and its words."""

    status: int
    output: str


@cache
def _leash() -> tuple[str, ...]:
    """A prefix that has the kernel kill the tool when we die, where util-linux has one."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def run(
    argv: Sequence[str],
    *,
    lock: int | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run `argv` to its end and return what it printed on both outputs, in English.

    `lock` is the descriptor of the store's lock if that is held. The tool inherits it: should we
    be killed in the one moment before the leash holds, the lock stands until the tool is gone too.
    Raises EnvironmentFailure if the tool can't be started.
    """
    lines: list[str] = []
    try:
        process = subprocess.Popen(
            [*_leash(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            env={**environ, "LC_ALL": "C.UTF-8", "LANGUAGE": ""},
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise EnvironmentFailure(f"can't start {argv[0]}: {error.strerror}") from error
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if on_line is not None:
                on_line(line.rstrip("\n"))
        return Finished(process.wait(), "".join(lines))
    except BaseException:
        process.kill()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
        process.wait()
