"""QEMU under a debugger or a tracer: no deadlines, and nothing left behind all the same."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.fixtures.migrating import Migration
from qmptests.hosts.strays import _with_environment
from qmptests.migration import Kill, Observer, Phase, Run
from qmptests.outcome import Result
from qmptests.vm import vm as vm_module

Migrate = Callable[..., Migration]

#: A parent that stays while QEMU runs, as gdb and strace do.
SHELL = ("sh", "-c", '"$@"; exit $?', "sh")


def processes_with(entry: bytes) -> set[int]:
    """Those that have it in their environment."""
    return _with_environment(lambda environment: entry in environment)[0]


class Tree(Observer):
    """The processes of the source's side, as they are when a phase is reached."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.entry = b""
        self.pids: set[int] = set()

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is self.phase:
            environment = Path(f"/proc/{run.source.process.pid}/environ").read_bytes()
            (self.entry,) = (
                e for e in environment.split(b"\0") if e.startswith(b"QMPTESTS_PROCESS=")
            )
            self.pids = processes_with(self.entry)


@pytest.mark.parametrize(
    "wrapper", [("env", "A=b"), ("nice", "-n", "1"), SHELL], ids=lambda w: w[0]
)
def test_a_wrapper_comes_before_qemu_and_nothing_is_left_of_it(
    migration: Migrate, wrapper: tuple[str, ...]
) -> None:
    tree = Tree(Phase.ACTIVE)
    outcome = migration(vm="none", wrapper=wrapper).run(tree)
    assert outcome.completed
    assert len(tree.pids) == (2 if wrapper is SHELL else 1)
    assert not processes_with(tree.entry)
    assert outcome.record.plan.wrapper == list(wrapper)
    assert outcome.source.record.argv[0] != wrapper[0]


def test_a_wrapper_knows_its_side(migration: Migrate, tmp_path: Path) -> None:
    script = f'echo {{side}} > {tmp_path}/{{side}}.said; exec "$@"'
    assert migration(vm="none", wrapper=("sh", "-c", script, "sh")).run().completed
    for side in ("source", "destination"):
        assert (tmp_path / f"{side}.said").read_text() == f"{side}\n"


@pytest.mark.parametrize("wrapper", [(), ("env",)], ids=["alone", "wrapped"])
def test_under_a_wrapper_there_are_no_deadlines(
    migration: Migrate, monkeypatch: pytest.MonkeyPatch, wrapper: tuple[str, ...]
) -> None:
    assert migration(wrapper=wrapper, timeout_s=0.001).run().completed == bool(wrapper)
    monkeypatch.setattr(vm_module, "START_S", 0.001)
    result = migration(vm="none", wrapper=wrapper).run().record.result
    assert result is (Result.COMPLETED if wrapper else Result.START_FAILED)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_killing_a_side_kills_what_the_wrapper_started(migration: Migrate, side: str) -> None:
    tree = Tree(Phase.LISTENING)
    outcome = migration(vm="none", wrapper=SHELL).run(tree, Kill(side, Phase.ACTIVE))
    assert not outcome.completed
    assert len(tree.pids) == 2
    assert not processes_with(tree.entry)


def test_a_wrapper_that_leaves_its_qemu_alone_leaves_nothing_either(migration: Migrate) -> None:
    """The shell ends at once, its QEMU lives: no start, and no stray."""
    outcome = migration(vm="none", wrapper=("sh", "-c", '"$@" & echo $! >&2', "sh")).run()
    assert outcome.record.result is Result.START_FAILED
    for line in outcome.source.record.stderr_tail:
        if line.isdigit():
            assert not Path(f"/proc/{line}/cmdline").exists() or not (
                Path(f"/proc/{line}/cmdline").read_bytes()
            )


def test_a_wrapper_that_is_no_program_is_refused_before_anything_starts(
    migration: Migrate, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("not a program")
    for word in ("no-such-debugger", str(tmp_path / "data")):
        wanted = migration(vm="none", wrapper=(word, "--args"))
        with pytest.raises(InputError, match=f"the wrapper '{word}' is not a program"):
            wanted.run()


def test_reproduce_works_without_the_wrapper_and_has_the_second_monitor(
    migration: Migrate, tmp_path: Path
) -> None:
    outcome = migration(vm="none", wrapper=SHELL, pause_on_failure=True).run()
    assert outcome.completed
    script = outcome.folder / "reproduce.sh"
    assert "# both ran under, and do not here: sh -c" in script.read_text()
    result = subprocess.run(
        [script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert ".sock,server=on" in result.stdout
