"""Whether those whom we rely on still live: asked when something is overdue, and only then.

A process of ours that is stopped, or hangs, can't be told from one that has nothing to say. So it
is asked for a sign of life; one that gives none is lost, and what it owned is killed from outside.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from qmptests.hosts.waiting import abandon

#: Seconds of silence after which a process of ours is lost.
SILENT_S = 5.0
#: Seconds after which what takes a moment is overdue.
MOMENT_S = 5.0
#: Seconds from an answer to the next question.
AGAIN_S = 1.0


class Relied(Protocol):
    """A process of ours that does something for us."""

    async def answer(self) -> None:
        """Returns at its next sign of life; at once where nothing is expected of it any more."""

    def lose(self, why: str) -> None:
        """It is lost: kill it and what it owned. Who waits for it gets an error that says why."""


class Guard:
    """Asks those whom a piece of work relies on, once that is overdue. Used on the event loop.

    `relied` gives them, at the time.
    """

    def __init__(self, relied: Callable[[], Iterable[Relied]]) -> None:
        self._relied = relied
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    def expect(self, seconds: float) -> None:
        """The work goes on: from now it has so much time until it is overdue."""
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)

    def hurry(self, seconds: float) -> None:
        """The same, unless it is overdue earlier, or already."""
        due = asyncio.get_running_loop().time() + seconds
        if self._asking is None and (self._timer is None or self._timer.when() > due):
            self.expect(seconds)

    def close(self) -> None:
        """Ask nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        self._timer = self._asking = None

    def _begin(self) -> None:
        self._timer = None
        self._asking = asyncio.get_running_loop().create_task(self._ask_on())

    async def _ask_on(self) -> None:
        while True:
            await ask(self._relied())
            await asyncio.sleep(AGAIN_S)


async def ask(relied: Iterable[Relied]) -> None:
    """Ask them all; those that are silent for `SILENT_S` are lost then."""
    questions = {asyncio.ensure_future(one.answer()): one for one in relied}
    if not questions:
        return
    try:
        await asyncio.wait(questions, timeout=SILENT_S)
        for question, one in questions.items():
            if not question.done():
                one.lose(f"gave no sign of life for {SILENT_S:g} s")
    finally:
        for question in questions:
            await abandon(question)
