"""`qmptests bisect-run`: one step of `git bisect run`, from a commit to good, bad or can't tell."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import click

from qmptests import builds
from qmptests.builds import Build
from qmptests.cli import junit
from qmptests.errors import InputError, QmptestsError

#: git-bisect(1), "Bisect run": 0 is good; 125 "should be used when the current source code cannot
#: be tested"; 1 to 127 otherwise is bad. Anything above ends the bisection: main.py sees to it that
#: no other error of ours is below.
GOOD, BAD, CANT_TELL = 0, 1, 125

#: Lines of the build command's output that are shown when it fails.
_SHOWN = 20

#: Seconds for what we started to end by itself after an interrupt.
_TEARDOWN_S = 30.0

#: pytest's statuses (its ExitCode). The last one: options that it refuses, a `-k` that it can't
#: parse, a suite that is not there.
_INTERRUPTED, _INTERNAL_ERROR, _USAGE_ERROR = 2, 3, 4


class _CantTell(Exception):
    """Why this commit can't be judged; `tail` are the last lines of the evidence."""

    def __init__(self, reason: str, tail: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.tail = tail


@click.command("bisect-run")
@click.option(
    "-k", "expression", required=True, metavar="EXPR", help="The tests that tell, as for pytest."
)
@click.option(
    "--build",
    "build_spec",
    default=".",
    metavar="BUILD",
    help="What is judged (default: the QEMU tree of the working directory).",
)
@click.option("--make", default="", metavar="COMMAND", help="Build it first: a shell command.")
@click.option(
    "--as",
    "role",
    type=click.Choice(["source", "destination", "both"]),
    default=None,
    help="Its side (default: both; with --against: destination).",
)
@click.option("--against", default="", metavar="BUILD", help="The build on the other side.")
@click.option(
    "--suite",
    default="qmptests.suites.compat",
    show_default=True,
    help="Where the tests are: a package, or a test file's path.",
)
@click.argument("pytest_arguments", metavar="[-- PYTEST ARGUMENTS...]", nargs=-1)
def bisect_run(
    expression: str,
    build_spec: str,
    make: str,
    role: str | None,
    against: str,
    suite: str,
    pytest_arguments: tuple[str, ...],
) -> int:
    """Tell git whether the commit that it checked out is good or bad.

    Exit status: 0 good, 1 bad (a selected test failed), 125 can't tell (it does not build or
    start, nothing ran, this machine failed), 128 or more ends the bisection (bad input, Ctrl-C).

    \b
    Example, in a QEMU checkout between `git bisect start` and `git bisect reset`:
      git bisect run qmptests bisect-run -k test_multifd --make 'ninja -C build'
    """
    role = role or ("destination" if against else "both")
    if (role == "both") == bool(against):
        raise click.UsageError(
            "--against names the other side's build: it goes with --as source or destination"
        )
    commit = _commit()
    version = ""
    try:
        other = builds.resolve(against, progress=_say) if against else None
        if make:
            _say(f"commit {commit}: {make}")
            _make(make)
        build = _the_build(build_spec)
        version = ".".join(map(str, build.facts.version))
        _say(f"commit {commit}: {build.binary} is {build.facts.version_text}")
        sides = {"source": build, "destination": build}
        if other is not None:
            sides["destination" if role == "source" else "source"] = other
        _say(f"commit {commit}: pytest -k '{expression}' {suite}")
        status, reason = _test(expression, suite, sides, pytest_arguments)
    except InputError:
        raise
    except (_CantTell, QmptestsError, OSError) as error:
        status, reason = CANT_TELL, str(error)
        for line in getattr(error, "tail", ()):
            click.echo(f"  | {line}", err=True)
    word = {GOOD: "good", BAD: "bad", CANT_TELL: "can't tell"}[status]
    built = f", build {version}" if version else ""
    _say(f"{word}: {reason} (commit {commit}{built})")
    return status


def _say(text: str) -> None:
    click.echo(f"bisect-run: {text}", err=True)


def _commit() -> str:
    """The commit that is checked out."""
    argv = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _make(command: str) -> None:
    """Run the build command; its output is kept if it fails."""
    handle, name = tempfile.mkstemp(prefix="bisect-run-", suffix=".log")
    with os.fdopen(handle, "wb") as log:
        status = _run(["/bin/sh", "-c", command], stdout=log, stderr=log)
    if status:
        lines = Path(name).read_text(errors="replace").splitlines()
        raise _CantTell(f"'{command}' ended with status {status}: {name}", lines[-_SHOWN:])
    Path(name).unlink()


def _the_build(spec: str) -> Build:
    """The build under test; whatever is wrong with it says nothing about other commits."""
    try:
        return builds.resolve(spec, progress=_say)
    except QmptestsError as error:
        raise _CantTell(str(error)) from error


def _test(
    expression: str, suite: str, sides: dict[str, Build], arguments: Sequence[str]
) -> tuple[int, str]:
    """Run the selected tests: status and reason. Raises InputError for what pytest refuses."""
    with tempfile.TemporaryDirectory(prefix="bisect-run-") as folder:
        results = Path(folder, "results.xml")
        status = _run(
            [
                # -P: what git checked out in the working directory is not to be imported.
                *(sys.executable, "-P", "-m", "pytest", "-q", "--no-header"),
                *("-p", "no:cacheprovider", "-k", expression),
                *(f"--qemu-{side}={build.spec}" for side, build in sides.items()),
                *(*arguments, f"--junitxml={results}", "--pyargs", suite),
            ]
        )
        if status == _USAGE_ERROR:
            raise InputError("pytest refuses this selection; its own words are above")
        counts = junit.read(results)
    return judge(counts, status)


def judge(counts: junit.Counts | None, status: int) -> tuple[int, str]:
    """The verdict: a failed test is proof, whatever else went wrong; success needs all tests."""
    if counts is None:
        return CANT_TELL, f"pytest ended with status {status}, without results"
    if counts.failed:
        return BAD, f"{len(counts.failed)} of {counts.total} tests failed, {counts.failed[0]} first"
    if counts.undecided:
        return CANT_TELL, counts.undecided[0]
    if status == _INTERRUPTED:
        return CANT_TELL, "the tests were interrupted"
    if status == _INTERNAL_ERROR:
        return CANT_TELL, "pytest ended with an internal error"
    if counts.passed:
        return GOOD, f"{counts.passed} of {counts.total} tests passed"
    if counts.skipped:
        return CANT_TELL, f"nothing but {counts.total} skipped tests: {counts.skipped[0]}"
    return CANT_TELL, "no test ran"


def _run(argv: Sequence[str], **redirected: IO[bytes]) -> int:
    """Exit status of a command in a process group of its own.

    The group, so that Ctrl-C reaches everything in it, once: a second one would cut the teardown
    off that the first one began.
    """
    options: dict[str, Any] = dict(redirected)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, process_group=0, **options) as child:
        try:
            return child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGINT)
            try:
                child.wait(_TEARDOWN_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
            raise
