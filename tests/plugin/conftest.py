"""A stranger's test suite, run by pytest in a process of its own, on a matrix of two builds."""

import os
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qmptests.matrix import results, store
from qmptests.matrix.results import ItemResult, RunResults
from qmptests.matrix.store import Matrix

#: Both directions between two builds, on the newest q35 that both know: two cells.
BUILDS = ("--qemu-build=debian:trixie", "--qemu-build=debian:trixie-backports")
SMALL = ("--qemu-matrix=smoke", "--qemu-machine=q35", "--qemu-vm=none")
#: hypothesis has a plugin for pytest, which takes longer to start than pytest itself.
PLAIN = ("-W", "error", "-p", "no:hypothesispytest")
MARK = "QMPTESTS_PLUGIN_TEST"


class Suite:
    """Test files in a folder of their own, and what pytest makes of them."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.path = pytester.path
        #: The run folder of `matrix`.
        self.folder = pytester.path / "run"
        self._started: list[subprocess.Popen[str]] = []
        self._mark = f"{MARK}={pytester.path}"
        monkeypatch.setenv(MARK, str(pytester.path))  # strays are found by it

    def write(self, text: str, name: str = "test_it") -> None:
        self.pytester.makepyfile(**{name: text})

    def migrating(self, call: str = "migration()") -> None:
        """A test that takes `cell`, and says that its migration completes."""
        self.write(f"def test_it(cell, migration): assert {call}.run().completed")

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest, with all warnings as errors."""
        return self.pytester.runpytest_subprocess(*PLAIN, *args, timeout=60)

    def matrix(self, *args: str) -> pytest.RunResult:
        """Run pytest on two cells, with the results in `folder`."""
        return self.run(*BUILDS, *SMALL, f"--qemu-results={self.folder}", *args)

    def matrix_here(self, options: str = "") -> pytest.RunResult:
        """As `matrix`, in this process: for what ends before any migration."""
        words = (*BUILDS, *SMALL, f"--qemu-results={self.folder}", *shlex.split(options))
        return self.pytester.runpytest_inprocess(*words)

    def start(self, *args: str) -> "subprocess.Popen[str]":
        """As `matrix`, but return at once; in a session of its own, as in a terminal."""
        folders = (f"--qemu-results={self.folder}", f"--basetemp={self.path / 'temporary'}")
        # A background job of a shell ignores Ctrl-C, and so would all that it starts.
        interruptible = ("env", "--default-signal=INT", sys.executable)
        process = subprocess.Popen(
            [*interruptible, "-m", "pytest", *PLAIN, *BUILDS, *SMALL, *folders, *args],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """What a test that failed has left running goes with it."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def refused(self, result: pytest.RunResult, words: str) -> None:
        """Assert: one line, pytest's status for a wrong use, no traceback, no run folder."""
        said = [line for line in result.errlines if line]
        assert (result.ret, len(said)) == (pytest.ExitCode.USAGE_ERROR, 1), said
        assert words in said[0]
        assert "Traceback" not in result.stdout.str()
        assert not self.folder.is_dir()

    @property
    def cells(self) -> Matrix:
        return store.read(self.folder)

    @property
    def results(self) -> RunResults:
        return results.read(self.folder)

    @property
    def items(self) -> dict[str, ItemResult]:
        """The results by what is in a node id's brackets, or else the test's name."""
        found = self.results.items
        names = [item.nodeid.partition("::")[2].removesuffix("]") for item in found]
        by_name = {name.split("[")[-1]: item for name, item in zip(names, found, strict=True)}
        assert len(by_name) == len(found)
        return by_name

    def outcome(self, name: str) -> dict[str, Any]:
        """`outcome.json` of an item of `items`."""
        file = self.folder / self.items[name].evidence / "outcome.json"
        found: dict[str, Any] = msgspec.json.decode(file.read_bytes())
        return found

    def partial(self) -> list[Path]:
        return list(self.folder.rglob("*.partial"))

    def processes(self) -> list[str]:
        """The command lines of all that pytest started and that is still there."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    if self._mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                        words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                        found.append(words.decode(errors="replace"))
                except OSError:
                    continue
        return found

    def nothing_is_left(self) -> None:
        """Assert that within 10 s no process of it is there."""
        self.until(lambda: not self.processes(), 10)

    def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait until it holds, or fail after so long."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.01)


@pytest.fixture
def suite(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    named_builds: None,
) -> Iterator[Suite]:
    """An empty one; the environment of this pytest session does not reach it."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    made = Suite(pytester, monkeypatch)
    yield made
    made.close()


@pytest.fixture(params=[(), ("-n2",)], ids=["serial", "parallel"])
def workers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options: the tests run in pytest's own process, or in two of xdist's workers."""
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def junit(suite: Suite) -> Callable[[], dict[str, dict[str, str]]]:
    """The properties of each testcase in `junit.xml`, by its name."""

    def read() -> dict[str, dict[str, str]]:
        found = {}
        root = ET.parse(suite.path / "junit.xml").getroot()  # noqa: S314 - pytest's own
        for case in root.iter("testcase"):
            those = [(p.get("name", ""), p.get("value", "")) for p in case.iter("property")]
            assert len(dict(those)) == len(those), those
            found[case.get("name", "")] = dict(those)
        return found

    return read
