"""Crashes and sanitizers' reports are results of their own, with what explains them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.migration import Observer, Phase, Run, cores
from qmptests.migration.sanitizers import LINES, first_report, report_in
from qmptests.outcome import Outcome, Result, folder, summary

if TYPE_CHECKING:
    from qmptests.builds import Build

Migrate = Callable[..., Migration]


class Crash(Observer):
    """A fault of the kind that QEMU dies of, at a phase or when the result is known."""

    def __init__(self, side: str, number: signal.Signals, phase: Phase | None = None) -> None:
        self.side = side
        self.number = number
        self.phase = phase
        self.judged_as: Result | None = None

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is self.phase:
            self.crash(run)

    async def judged(self, result: Result, error: str, run: Run) -> None:  # noqa: ARG002
        self.judged_as = result
        if self.phase is None:
            self.crash(run)

    def crash(self, run: Run) -> None:
        (run.source if self.side == "source" else run.destination).process.signal(self.number)


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS])
def test_a_crash_during_a_migration_is_a_crash_and_no_mere_death(
    migration: Migrate, side: str, number: signal.Signals
) -> None:
    crash = Crash(side, number, Phase.LISTENING)
    outcome = migration(vm="none", expected=Result.CRASHED).run(crash)
    assert outcome.as_expected, outcome
    assert crash.judged_as is Result.CRASHED
    assert f"{side} was killed by {number.name}" in outcome.record.error
    crashed = {s.name: s for s in (outcome.source.record, outcome.destination.record)}[side].exit
    assert crashed is not None
    assert crashed.returncode == -number
    assert crashed.core
    assert crashed.core in outcome.record.error


def test_a_crash_at_teardown_spoils_a_migration_that_had_completed(migration: Migrate) -> None:
    crash = Crash("destination", signal.SIGABRT)
    outcome = migration().run(crash)
    assert crash.judged_as is Result.COMPLETED
    assert outcome.record.result is Result.CRASHED
    assert outcome.record.error.startswith("destination was killed by SIGABRT")
    assert outcome.record.attempts[0].status == "completed"


def test_a_shell_around_it_does_not_hide_a_crash(migration: Migrate) -> None:
    """Its exit status is 128 and the signal's number."""
    wrapper = ("sh", "-c", "kill -SEGV $$; :", "sh")
    nested = ("sh", "-c", '"$@"; exit $?', "sh", *wrapper)
    outcome = migration(vm="none", wrapper=nested).run()
    assert outcome.record.result is Result.CRASHED
    assert "exited with status 139" in outcome.record.error


SCRIPT = """\
import pathlib, resource, signal, sys
import msgspec
from qmptests import builds, vm
from qmptests.migration import Observer, Phase, Plan, migrate

class Crash(Observer):
    async def reached(self, phase, run):
        if phase is Phase.ARRIVED:
            run.source.process.signal(signal.SIGSEGV)

soft = 0 if sys.argv[2] == "0" else resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (soft, resource.getrlimit(resource.RLIMIT_CORE)[1]))
build = builds.resolve(sys.argv[1])
small = msgspec.structs.replace(vm.load("none"), memory="16M")  # so is the core dump
plan = Plan(build, build, small, accelerator="tcg,tb-size=8")
migrate(plan, pathlib.Path("out"), [Crash()])
"""


def crashed_with_limit(build: "Build", limit: str, where: Path) -> Outcome:
    """A crash in a process of its own, since the limit and the working directory are inherited."""
    subprocess.run([sys.executable, "-c", SCRIPT, build.spec, limit], cwd=where, check=True)
    return Outcome(folder.load(where / "out"), where / "out")


def test_a_core_dump_is_part_of_the_evidence(source_build: "Build", tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern or pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"core_pattern is {pattern!r}: core dumps do not go to the working directory")
    outcome = crashed_with_limit(source_build, "unlimited", tmp_path)
    end = outcome.source.record.exit
    assert end is not None
    if not end.core_dumped:
        pytest.skip("the kernel wrote no core dump: the hard limit of ulimit -c is too low")
    assert end.core == "core dump: source.core"
    assert (outcome.folder / "source.core").read_bytes()[:4] == b"\x7fELF"
    assert "source.core" in outcome.record.evidence
    assert outcome.record.error == "source was killed by SIGSEGV (core dumped); " + end.core
    assert not list(tmp_path.glob("core*"))


def test_why_there_is_no_core_dump_is_said(source_build: "Build", tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("core dumps are piped to a program here, whatever the limit is")
    outcome = crashed_with_limit(source_build, "0", tmp_path)
    assert outcome.record.error == "source was killed by SIGSEGV; no core dump: ulimit -c is 0"


@pytest.mark.parametrize(
    ("pattern", "uses_pid", "pid", "wanted"),
    [
        ("core", False, 7, "core"),
        ("core", True, 7, "core.7"),
        ("core", True, None, "core.*"),
        ("/var/crash/%e.%p.%t", True, 7, "/var/crash/*.7.*"),
        ("c[%p]-100%%", False, 7, "c[[]7]-100%"),
    ],
)
def test_a_core_pattern_becomes_the_files_it_may_mean(
    pattern: str, uses_pid: bool, pid: int | None, wanted: str
) -> None:
    assert cores.as_glob(pattern, uses_pid, pid) == wanted


def test_a_core_pattern_with_a_pipe_names_its_program() -> None:
    assert cores.handler("|/usr/lib/systemd/systemd-coredump %P %u") == (
        "/usr/lib/systemd/systemd-coredump"
    )
    assert cores.handler("core") == ""


def test_an_old_core_dump_is_another_ones(tmp_path: Path) -> None:
    core = tmp_path / "core.1"
    core.touch()
    made = core.stat().st_mtime
    assert cores.newest(f"{tmp_path}/core*", made) == core
    assert cores.newest(f"{tmp_path}/core*", made + 1) is None


ADDRESS = """\
2026-11-22T10:00:00.000000Z qemu-system-x86_64: warning: something harmless
==4711==WARNING: ASan doesn't fully support makecontext/swapcontext functions
=================================================================
==4711==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010 at pc 0x1 bp 0x2
READ of size 4 at 0x602000000010 thread T0
    #0 0x55d0 in some_function file.c:12
SUMMARY: AddressSanitizer: heap-use-after-free file.c:12 in some_function
Shadow bytes around the buggy address:
"""
LEAK = """\
==99==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 64 byte(s) in 1 object(s) allocated from:
"""
THREAD = """\
==================
WARNING: ThreadSanitizer: data race (pid=5)
  Write of size 8 at 0x7b04 by thread T1:
"""
MEMORY = "==3==WARNING: MemorySanitizer: use-of-uninitialized-value\n    #0 0x1 in main\n"
UNDEFINED = "\n../hw/core/x.c:7:13: runtime error: shift exponent 64 is too large for 'int'\n"


@pytest.mark.parametrize(
    ("text", "title", "first", "last"),
    [
        (
            ADDRESS,
            "AddressSanitizer: heap-use-after-free on address 0x602000000010 at pc 0x1 bp 0x2",
            "==4711==ERROR: AddressSanitizer: ",
            "SUMMARY: AddressSanitizer: heap-use-after-free file.c:12 in some_function",
        ),
        (
            LEAK,
            "LeakSanitizer: detected memory leaks",
            "==99==ERROR: ",
            "Direct leak of 64 byte(s) in 1 object(s) allocated from:",
        ),
        (
            THREAD,
            "ThreadSanitizer: data race (pid=5)",
            "WARNING: ",
            "  Write of size 8 at 0x7b04 by thread T1:",
        ),
        (MEMORY, "MemorySanitizer: use-of-uninitialized-value", "==3==", "    #0 0x1 in main"),
        (
            UNDEFINED,
            "UndefinedBehaviorSanitizer: ../hw/core/x.c:7:13: runtime error: "
            "shift exponent 64 is too large for 'int'",
            "../hw/core/x.c:7:13: ",
            UNDEFINED.strip(),
        ),
    ],
    ids=["address", "leak", "thread", "memory", "undefined"],
)
def test_each_sanitizers_report_is_found(text: str, title: str, first: str, last: str) -> None:
    report = first_report(text.encode())
    assert report is not None
    assert report.title == title
    assert report.lines[0].startswith(first)
    assert report.lines[-1] == last


@pytest.mark.parametrize(
    "text",
    [
        "",
        "==1==WARNING: ASan doesn't fully support makecontext/swapcontext functions\n",
        "==1==LeakSanitizer has encountered a fatal error.\n",
        "==1==FATAL: ThreadSanitizer: unexpected memory mapping\n",
        "qemu-system-x86_64: runtime error: of something else\n",
        "qemu-system-x86_64: AddressSanitizer: is what this QEMU lacks\n",
    ],
)
def test_what_is_no_report_is_not_taken_for_one(text: str) -> None:
    assert first_report(text.encode()) is None


def test_a_long_report_is_cut_and_a_long_log_is_searched_quickly(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    assert report_in(log) is None
    log.touch()
    assert report_in(log) is None
    frames = b"".join(b"    #%d 0x1 in f\n" % n for n in range(100))
    log.write_bytes(b"x:1" * (10 << 20) + b"\n" + LEAK.encode() + frames)
    report = report_in(log)
    assert report is not None
    assert len(report.lines) == LINES


LEAKY = """\
#include <stdlib.h>
#include <stdio.h>
int main(int argc, char **argv) {
    char *memory = malloc(8);
    free(memory);
    printf("%d\\n", memory[argc]);
    return 0;
}
"""


@pytest.fixture
def buggy(tmp_path: Path) -> Path:
    """A program that AddressSanitizer ends, or the test is skipped."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc here")
    source, program = tmp_path / "buggy.c", tmp_path / "buggy"
    source.write_text(LEAKY)
    built = subprocess.run(
        [gcc, "-w", "-g", "-fsanitize=address", source, "-o", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        pytest.skip(f"gcc can't build with -fsanitize=address: {built.stderr.splitlines()[-1]}")
    return program


def test_a_real_report_spoils_a_migration_that_completed(migration: Migrate, buggy: Path) -> None:
    """As of a QEMU that was built to go on after a report (halt_on_error=0)."""
    script = f'test {{side}} = source || {buggy}; exec "$@"'
    outcome = migration(vm="none", wrapper=("sh", "-c", script, "sh")).run()
    record = outcome.record
    assert record.attempts[0].status == "completed"
    assert record.result is Result.SANITIZER_REPORT
    assert record.error.startswith("destination: AddressSanitizer: heap-use-after-free on address")
    assert "ERROR: AddressSanitizer: heap-use-after-free" in record.error_tail[0]
    assert record.error_tail[-1].startswith("SUMMARY: AddressSanitizer: heap-use-after-free")
    assert any("heap-use-after-free" in line for line in summary.lines(outcome))
    assert os.environ.get("ASAN_OPTIONS") is None
