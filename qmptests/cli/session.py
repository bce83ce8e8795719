"""A pytest session inside a command: its own output goes to a log, its end becomes ours."""

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

from qmptests.errors import EnvironmentFailure, InputError
from qmptests.hosts.scratch import blocking_scratch
from qmptests.matrix.results import RunResults
from qmptests.matrix.store import Matrix
from qmptests.outcome import modes

LOG = "pytest.log"
"""pytest's own output, in the run folder."""

#: Lines of the log that are shown where it says why nothing ran.
_TAIL = 15


#: Of a session that had no item, those of which the account of the run says why.
_USUAL = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Session:
    """A pytest plugin that keeps what the controller and pytest say of the session.

    `folder`, `matrix` and `results` are there once the session has come so far. `interrupted`: by
    a person or a signal.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.matrix: Matrix | None = None
        self.results: RunResults | None = None
        self.interrupted = False
        self._error: InputError | EnvironmentFailure | None = None
        self._log: IO[bytes]
        #: Where the log is now.
        self._path = Path()

    def run(self, arguments: Sequence[str], *plugins: object) -> None:
        """Run pytest, with its output in the run folder's log.

        Raises InputError and EnvironmentFailure where there is nothing to report.
        """
        with contextlib.ExitStack() as undo:
            # What is in there goes even if this process is killed.
            scratch = undo.enter_context(blocking_scratch())
            self._path = scratch / LOG
            self._log = undo.enter_context(self._path.open("w+b", buffering=0))
            temporary = f"--basetemp={scratch / 'tests'}"
            try:
                with _redirected(self._log):
                    status = pytest.main([*arguments, temporary], plugins=[self, *plugins])
            finally:
                self._keep_log()
            ran = self.results is not None and bool(self.results.items)
            if self._error is not None and not ran:
                raise self._error
            if not ran and not self.interrupted and status not in _USUAL:
                raise self._failure()

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self) -> Generator[None, object, object]:
        """Keep the text of what pytest or the controller refuses."""
        try:
            return (yield)
        except pytest.UsageError as error:
            self._error = InputError(" ".join(str(error).split()))
            raise

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from `--maxfail`, and from the controller's giving up."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            self._error = EnvironmentFailure(excinfo.value.msg.removeprefix("environment: "))
        else:
            from xdist.dsession import Interrupted  # type: ignore[import-untyped] # noqa: PLC0415

            stopped = (pytest.Session.Interrupted, Interrupted)
            self.interrupted = not isinstance(excinfo.value, stopped)

    @pytest.hookimpl(tryfirst=True)
    def pytest_qmptests_selected(self, folder: Path) -> None:
        """The log can be read where it belongs from now on, if that is the same file system."""
        self.folder = folder
        with contextlib.suppress(OSError):
            self._path = self._path.rename(folder / LOG)
            self._path.chmod(modes.of_files(folder))

    def pytest_qmptests_finished(
        self,
        matrix: Matrix,
        results: RunResults,
        folder: Path,  # noqa: ARG002
    ) -> None:
        """Keep what there is to be reported."""
        self.matrix, self.results = matrix, results

    def _failure(self) -> EnvironmentFailure:
        where = f": see {self.folder / LOG}" if self.folder else ""
        error = EnvironmentFailure(f"pytest could not run the cells{where}")
        lines = self._said().decode(errors="replace").splitlines()
        for line in [line for line in lines if line.strip()][-_TAIL:]:
            error.add_note(f"| {line}")
        return error

    def _said(self) -> bytes:
        """All that pytest has printed; by descriptor, since its folder may be gone."""
        self._log.seek(0)
        return self._log.read()

    def _keep_log(self) -> None:
        if self.folder is not None and self._path.parent != self.folder:
            with contextlib.suppress(OSError):
                self._path = self.folder / LOG
                self._path.write_bytes(self._said())
                self._path.chmod(modes.of_files(self.folder))


@contextlib.contextmanager
def _redirected(log: IO[bytes]) -> Iterator[None]:
    """Standard output and error of this process and those that it starts go to `log`."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)
