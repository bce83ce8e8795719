"""`qmptests bisect-run` lets git find the commit that broke something, and never blames another.

A script that execs a real QEMU stands for the binary that a commit is built to.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from qmptests import builds
from qmptests.cli import bisect, junit

BISECT_RUN = (sys.executable, "-m", "qmptests.cli.main", "bisect-run")
AGAINST = ("--against", "debian:trixie-backports")

SUITE = """
import os, signal
import pytest
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.migration import Observer
from qmptests.vm.devices import load

class NoDisk(Observer):
    async def reached(self, phase, run):
        raise EnvironmentFailure("the disk is full")

@pytest.fixture
def broken():
    raise RuntimeError("the preparation failed")

def test_it_migrates(migration):
    assert migration(vm="none").run().completed

def test_machine_failed(migration):
    assert migration(vm="none").run(NoDisk()).completed

class Killed(Observer):
    async def reached(self, phase, run):
        if phase == "started":
            run.source.emulation.supervisor.signal(signal.SIGKILL)

def test_emulation_failed(migration):
    assert migration(vm="none", devices=[load("idle")]).run(Killed()).completed

def test_not_for_this_build(migration):
    migration(vm="none", capabilities=["teleport"]).run()

def test_sides(source_build, destination_build):
    assert (source_build.name, destination_build.name) == tuple(os.environ["SIDES"].split())

def test_passes(): pass
def test_fails(): assert False
def test_disk_full(): raise OSError(28, "No space left on device")
def test_skipped(): pytest.skip("not today")
def test_unprepared(broken): pass
def test_killed(): os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.xfail(reason="known for years")
def test_known(): assert False

def test_waits():
    open("waiting", "w").close()
    signal.pause()
"""


pytestmark = pytest.mark.usefixtures("named_builds")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "test_suite_of_mine.py"
    path.write_text(SUITE)
    return path


def bisect_run(
    cwd: Path, *args: str | Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*BISECT_RUN, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(cwd), **environment},
    )


def git(cwd: Path, *args: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *identity, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(cwd.parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def wrapper(number: int, addition: str) -> str:
    """The "source code" of a QEMU: each commit's has another content, as a real build would."""
    real = builds.resolve("debian:trixie")
    environment = " ".join(f"{name}={value}" for name, value in real.env.items())
    return (
        f"#!/bin/sh\n# commit {number}\n{addition}\n"
        f'exec env {environment} {" ".join(real.argv)} "$@"\n'
    )


#: The destination's memory is another than the source's: the migration fails.
BREAKS_MIGRATION = 'case "$*" in *-incoming*) set -- "$@" -m 512 ;; esac'


@pytest.fixture
def history(tmp_path: Path) -> tuple[Path, list[str]]:
    """A checkout of six commits: the third does not build, from the fifth on migration fails."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    tree = tmp_path / "qemu"
    (tree / "build").mkdir(parents=True)
    (tree / "build" / "config.status").write_text("#!/bin/sh\n# QEMU configure\n")
    git(tree, "init", "-q")
    (tree / ".git" / "info" / "exclude").write_text("/build\n")
    commits = []
    for number in range(1, 7):
        (tree / "qemu.sh").write_text(wrapper(number, BREAKS_MIGRATION if number >= 5 else ""))
        build = "cp qemu.sh build/qemu-system-x86_64 && chmod +x build/qemu-system-x86_64"
        failing = "seq -f 'CC %g.o' 1 30; echo 'undefined reference to migrate_init' >&2; exit 1"
        (tree / "make.sh").write_text(failing if number == 3 else build)
        git(tree, "add", ".")
        git(tree, "commit", "-q", "-m", f"commit {number}")
        commits.append(git(tree, "rev-parse", "HEAD").strip())
    return tree, commits


@pytest.mark.smoke
def version_of(spec: str) -> str:
    return ".".join(map(str, builds.resolve(spec).facts.version))


def test_git_finds_the_first_bad_commit(history: tuple[Path, list[str]], suite: Path) -> None:
    tree, commits = history
    git(tree, "bisect", "start", commits[-1], commits[0])
    said = git(
        *(tree, "bisect", "run", *BISECT_RUN, "-k", "migrates", "--make", "sh make.sh"),
        *("--suite", str(suite), "--", "--tb=no"),
    )
    assert f"{commits[4]} is the first bad commit" in said, said
    short = [git(tree, "rev-parse", "--short", commit).strip() for commit in commits]
    version = version_of("debian:trixie")
    assert f"good: 1 of 1 tests passed (commit {short[3]}, build {version})" in said
    assert f"1 tests failed, test_it_migrates first (commit {short[4]}, build {version})" in said
    log = git(tree, "bisect", "log")
    assert f"git bisect skip {commits[2]}" in log, "git did not come by the one that fails to build"


def test_a_commit_that_does_not_build_is_125_with_the_last_lines(
    history: tuple[Path, list[str]], suite: Path
) -> None:
    tree, commits = history
    git(tree, "checkout", "-q", commits[2])
    result = bisect_run(tree, "-k", "passes", "--make", "sh make.sh", "--suite", suite)
    assert result.returncode == 125
    *lines, last = result.stderr.splitlines()
    assert lines[-20:] == [
        *(f"  | CC {number}.o" for number in range(12, 31)),
        "  | undefined reference to migrate_init",
    ]
    assert last.startswith("bisect-run: can't tell: 'sh make.sh' ended with status 1: ")
    (log,) = tree.glob("bisect-run-*.log")
    assert str(log) in last
    assert log.read_text().startswith("CC 1.o\n")


@pytest.mark.parametrize(
    ("binary", "reason"),
    [
        (None, "build QEMU there first"),
        ("#!/bin/sh\necho 'Illegal instruction' >&2\nexit 132\n", "Illegal instruction"),
    ],
    ids=["no binary", "it does not start"],
)
def test_a_build_that_is_none_is_125(
    tmp_path: Path, suite: Path, binary: str | None, reason: str
) -> None:
    if binary is not None:
        (tmp_path / "qemu-system-x86_64").write_text(binary)
        (tmp_path / "qemu-system-x86_64").chmod(0o755)
    result = bisect_run(tmp_path, "-k", "passes", "--suite", suite)
    assert result.returncode == 125
    line = result.stderr.splitlines()[-1]
    assert line.startswith("bisect-run: can't tell: ")
    assert reason in line


@pytest.mark.parametrize(
    ("options", "sides", "verdict", "status"),
    [
        (["sides or skipped"], "10.0 10.0", "good: 1 of 2 tests passed", 0),
        (["sides", *AGAINST], "11.1 10.0", "good: 1 of 1 tests passed", 0),
        (["sides", *AGAINST, "--as", "source"], "10.0 11.1", "good: 1 of 1 tests passed", 0),
        (["passes or fails"], "", "bad: 1 of 2 tests failed, test_fails first", 1),
        (["killed"], "", "can't tell: pytest ended with status -9, without results", 125),
    ],
)
def test_the_verdict_is_one_line_and_the_exit_status(
    tmp_path: Path, suite: Path, options: list[str], sides: str, verdict: str, status: int
) -> None:
    result = bisect_run(
        tmp_path, "--build", "debian:trixie", "--suite", suite, "-k", *options, SIDES=sides
    )
    assert result.returncode == status, result.stdout + result.stderr
    said = result.stderr.splitlines()
    version = version_of("debian:trixie")
    assert said[-1] == f"bisect-run: {verdict} (commit unknown, build {version})"
    assert not [line for line in said[:-1] if "commit" not in line]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ET.Element]:
    """What a real pytest, with a worker, noted of each test of the suite."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "test_suite_of_mine.py").write_text(SUITE)
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1"),
            *("-k", "not waits and not sides", "--junitxml=results.xml"),
            *("--qemu-source=debian:trixie", "test_suite_of_mine.py"),
        ],
        cwd=folder,
        timeout=60,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    cases = ET.parse(folder / "results.xml").iter("testcase")  # noqa: S314 - we wrote it
    return {case.get("name", "").removeprefix("test_"): case for case in cases}


@pytest.mark.parametrize(
    ("tests", "status", "reason"),
    [
        (["passes", "skipped"], 0, "1 of 2 tests passed"),
        (["passes", "known"], 0, "1 of 2 tests passed"),
        (["fails", "passes", "disk_full", "unprepared"], 1, "1 of 4 tests failed, test_fails"),
        (["passes", "machine_failed"], 125, "test_machine_failed: qmptests.errors.Environment"),
        (["emulation_failed"], 125, "test_emulation_failed: AssertionError: assert False"),
        (["not_for_this_build"], 125, "test_not_for_this_build: qmptests.errors.InputError: "),
        (["disk_full"], 125, "test_disk_full: OSError: [Errno 28] No space left on device"),
        (["unprepared"], 125, "test_unprepared: failed on setup with"),
        (["killed", "passes"], 125, "test_killed: failed on setup with \"worker 'gw0' crashed"),
        (["skipped", "known"], 125, "nothing but 2 skipped tests: not today"),
        ([], 125, "no test ran"),
    ],
)
def test_a_failed_test_is_proof_and_success_needs_all(
    results: dict[str, ET.Element], tests: list[str], status: int, reason: str
) -> None:
    counts = junit.Counts()
    for name in tests:
        counts.add(results[name])
    judged, because = bisect.judge(counts, 0)
    assert (judged, because[: len(reason)]) == (status, reason)


@pytest.mark.parametrize(
    ("counts", "status", "reason"),
    [
        (junit.Counts(total=2, passed=2), pytest.ExitCode.INTERRUPTED, "the tests were interrupt"),
        (junit.Counts(total=2, passed=2), pytest.ExitCode.INTERNAL_ERROR, "pytest ended with"),
        (None, -signal.SIGSEGV, "pytest ended with status -11, without results"),
    ],
)
def test_a_run_that_was_cut_short_is_no_success(
    counts: junit.Counts | None, status: int, reason: str
) -> None:
    judged, because = bisect.judge(counts, status)
    assert judged == 125
    assert because.startswith(reason)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--warp"], "No such option '--warp'"),
        (["--against", "no-such-build"], "'no-such-build' is no registered build"),
        (["--as", "source"], "--against names the other side's build"),
        (["-k", "a b c(", "--", "-q"], "Wrong expression passed to '-k'"),
        (["--suite", "no_such_suite.py"], "no_such_suite.py"),
    ],
)
def test_a_mistake_of_the_users_ends_the_bisection(
    tmp_path: Path, suite: Path, options: list[str], words: str
) -> None:
    """The usual exit statuses, 2 and 3, would blame the commit."""
    result = bisect_run(
        tmp_path, "-k", "passes", "--build", "debian:trixie", "--suite", suite, *options
    )
    assert result.returncode == 128, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_without_an_expression_the_bisection_ends(tmp_path: Path) -> None:
    assert bisect_run(tmp_path).returncode == 128


def test_a_bug_of_ours_ends_the_bisection(tmp_path: Path) -> None:
    """Python's own exit status after a traceback is 1: bad."""
    (tmp_path / "click.py").write_text("raise RuntimeError('a broken installation')")
    result = bisect_run(tmp_path, "-k", "passes", PYTHONPATH=str(tmp_path))
    assert result.returncode == 128
    assert "RuntimeError: a broken installation" in result.stderr


def test_ctrl_c_ends_the_bisection_and_the_tests(tmp_path: Path, suite: Path) -> None:
    running = subprocess.Popen(
        [*BISECT_RUN, "-k", "waits", "--build", "debian:trixie", "--suite", str(suite)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with running:
        deadline = time.monotonic() + 30
        while not (tmp_path / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        # The pipe's end: nobody is left who could write to it.
        said, _ = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert "KeyboardInterrupt" in said, "pytest had no time for its teardown"
