"""Every wait has a deadline, watches that all processes are alive, and says what it waited for.

Only a QEMU under a debugger has none: `without_deadlines`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from qmptests.errors import TestedFailure

T = TypeVar("T")


_unlimited: ContextVar[bool] = ContextVar("qmptests_unlimited", default=False)


@contextlib.contextmanager
def without_deadlines(off: bool = True) -> Iterator[None]:
    """In this block, and in tasks that begin in it, what asks `deadline` has no time limit.

    `off=False` switches them on again.
    """
    before = _unlimited.set(off)
    try:
        yield
    finally:
        _unlimited.reset(before)


def deadline(timeout: float | None) -> float | None:
    """The time (seconds) that a tested process has for something; None: as long as it takes."""
    return None if _unlimited.get() else timeout


class Watched(Protocol):
    """What a wait watches besides its own aim: anything that can end."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def exited(self) -> "asyncio.Future[Any]":
        """Done when it has ended, with how it ended."""

    def last_lines(self, count: int = 5) -> list[str]:
        """The last that it wrote, for messages."""


class WaitTimeout(TestedFailure):
    """The deadline passed. `tail` holds the last log lines of what was watched."""

    def __init__(self, what: str, timeout_s: float, tail: list[str]) -> None:
        super().__init__(f"timed out after {timeout_s:g} s waiting for {what}")
        self.what = what
        self.tail = tail


class ProcessDied(TestedFailure):
    """A process ended while something else was waited for."""

    def __init__(self, name: str, status: object, what: str, tail: list[str]) -> None:
        last = f": {tail[-1]}" if tail else ""
        super().__init__(f"{name} {status} while waiting for {what}{last}")
        self.process = name
        self.status = status
        self.what = what
        self.tail = tail


async def wait(
    aim: Awaitable[T],
    *,
    what: str,
    timeout: float | None,
    alive: Sequence[Watched] = (),
) -> T:
    """The result of `aim`, unless its deadline (seconds) passes or one of `alive` ends first.

    An aim that is reached in the same moment as an end counts as reached. Raises WaitTimeout or
    ProcessDied; the aim is cancelled then.
    """
    task = asyncio.ensure_future(aim)
    ends = [w.exited for w in alive]
    try:
        await asyncio.wait({task, *ends}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        for watched in alive:
            if watched.exited.done():
                error = watched.exited.exception()
                if error is not None:
                    raise error
                raise ProcessDied(watched.name, watched.exited.result(), what, watched.last_lines())
        tail = [f"{w.name}: {line}" for w in alive for line in w.last_lines()]
        raise WaitTimeout(what, timeout or 0.0, tail)
    finally:
        await abandon(task)


async def abandon(task: "asyncio.Future[Any]") -> None:
    """Cancel a task unless it is done, wait for its end, and take whatever it raised."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
