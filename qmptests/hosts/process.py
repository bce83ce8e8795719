"""One process that the launcher started for us."""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from qmptests import reaping
from qmptests.errors import EnvironmentFailure
from qmptests.hosts.waiting import WaitTimeout, wait

#: Seconds in which SIGKILL ends a process.
KILLED_S = 30.0
#: Seconds for one that may not be killed to end by itself, since what it waits for was.
SPARED_S = 2.0


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: `returncode` as in subprocess (negative: killed by that signal)."""

    returncode: int
    core_dumped: bool = False
    cpu_s: float = 0.0
    max_rss_kib: int = 0

    def __str__(self) -> str:
        if self.returncode >= 0:
            return f"exited with status {self.returncode}"
        try:
            name = signal.Signals(-self.returncode).name
        except ValueError:
            name = f"signal {-self.returncode}"
        return f"was killed by {name}" + (" (core dumped)" if self.core_dumped else "")


class Process:
    """A running or ended process. Only the loop thread touches it.

    `exited` resolves with an `ExitStatus`, or with an error if the launcher itself died.
    """

    def __init__(
        self,
        name: str,
        argv: list[str],
        pid: int,
        pidfd: int,
        output: Path | None = None,
        identity: int = 0,
    ) -> None:
        self.name = name
        self.argv = argv
        self.pid = pid
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.exited.add_done_callback(_retrieved)
        #: The number that its host gave it.
        self.identity = identity
        self._pidfd = pidfd
        self.output = output

    @property
    def status(self) -> ExitStatus | None:
        """How it ended, or None while it runs."""
        if not self.exited.done() or self.exited.cancelled() or self.exited.exception():
            return None
        return self.exited.result()

    def last_lines(self, count: int = 5) -> list[str]:
        """The end of its standard error, for messages."""
        if self.output is None:
            return []
        try:
            with self.output.open("rb") as stream:
                stream.seek(max(0, self.output.stat().st_size - 8192))
                tail = stream.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in tail.splitlines() if line.strip()][-count:]

    def signal(self, number: int) -> bool:
        """Send a signal; one that has ended already is left alone.

        False if it is another user's by now (`sudo`), and this one may not.
        """
        if not self.exited.done():
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass
            except PermissionError:
                return False
        return True

    async def stop(self, grace_s: float = 5.0) -> ExitStatus:
        """SIGTERM, and after `grace_s` SIGKILL; returns how it ended."""
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self.exited], timeout=grace_s)
        if not done:
            return await self.kill()
        return self.exited.result()

    async def kill(self) -> ExitStatus:
        """SIGKILL, and wait until it is reaped; raises EnvironmentFailure if that is forbidden."""
        allowed = self.signal(signal.SIGKILL)
        try:
            return await wait(
                asyncio.shield(self.exited),
                what=f"{self.name} to die of SIGKILL",
                timeout=KILLED_S if allowed else SPARED_S,
            )
        except WaitTimeout:
            if allowed:
                raise
            raise EnvironmentFailure(self.still_runs()) from None

    def still_runs(self) -> str:
        """That it does, in words, for one that may not be killed."""
        return f"{self.name}: {reaping.described(self.pid, {self.pid})}"

    def ended(self, status: ExitStatus | None, error: Exception | None = None) -> None:
        """For the host: the launcher reported the end (or died itself)."""
        if self.exited.done():
            return
        os.close(self._pidfd)
        if status is not None:
            self.exited.set_result(status)
        else:
            self.exited.set_exception(error or RuntimeError("ended without a status"))


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process (proc(5), `stat`); one under a debugger is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] == b"T"


def _retrieved(future: "asyncio.Future[ExitStatus]") -> None:
    """Nobody may have awaited it; asyncio must not complain about that at exit."""
    if not future.cancelled():
        future.exception()
