"""xdist workers that a signal has stopped: each is killed in time, and its cell is lost.

A stopped process says nothing and ends nothing, so the session would wait for it for ever. xdist
reports one that died, and starts another for what is left. Only a session with a matrix has this:
elsewhere no deadline is known, and a worker may be stopped on purpose.
"""

import threading
import time
from subprocess import Popen
from typing import Any

import pytest

from qmptests.hosts import is_stopped, life, strays
from qmptests.hosts.local import remove_stale_scratch

#: Seconds between two looks.
LOOK_S = 1.0
#: Seconds by which a look must be late for this process to have been stopped itself, by Ctrl-Z.
STOPPED_S = 2.0
#: Seconds for the launcher of a killed worker to clean up.
LAUNCHER_S = 5.0


class _Worker:
    """One process. `heard`: when it last said something."""

    def __init__(self, name: str, popen: "Popen[bytes]") -> None:
        self.name = name
        self.popen = popen
        self.heard = self.ran = time.monotonic()


class Workers:
    """A plugin of the controller's. `limit_s`: the deadline of a cell's migration."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        #: Why those died that were killed here, by name.
        self.killed: dict[str, str] = {}
        self._workers: dict[str, _Worker] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Watch a worker of this machine from its first moment on."""
        popen = getattr(getattr(node.gateway, "_io", None), "popen", None)
        if popen is not None:
            self._workers[node.gateway.id] = _Worker(node.gateway.id, popen)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, name="qmptests-workers", daemon=True
            )
            self._thread.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """It has been heard of."""
        self.hear(node.gateway.id)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """It is gone, or about to be."""
        self._workers.pop(node.gateway.id, None)

    def pytest_unconfigure(self) -> None:
        """Nothing is left to be watched."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def hear(self, name: str) -> None:
        """A worker has reported something: what it does next has its own time."""
        if name in self._workers:
            self._workers[name].heard = time.monotonic()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            for worker in list(self._workers.values()):
                if now - last > LOOK_S + STOPPED_S:
                    worker.heard = worker.ran = now
                if not is_stopped(worker.popen.pid):
                    worker.ran = now
                elif now > worker.heard + self.limit_s and now > worker.ran + life.SILENT_S:
                    self._kill(worker)
            last = time.monotonic()

    def _kill(self, worker: _Worker) -> None:
        """The worker, and then what its launcher has not ended, be it stopped as well."""
        self._workers.pop(worker.name, None)
        self.killed[worker.name] = (
            f"worker {worker.name} was killed: a signal had stopped it, and the deadline of "
            f"{self.limit_s:g} s had passed"
        )
        worker.popen.kill()
        deadline = time.monotonic() + LAUNCHER_S
        while strays.owned_by(worker.popen.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        if strays.kill_owned_by(worker.popen.pid):
            remove_stale_scratch()
