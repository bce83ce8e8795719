"""The events of one connection: a bounded log that can be waited on."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from qmptests.qmp.runs import Run, RunLength

#: One entry of the log: an event, or a run of them (`count` above 1).
Event = Run

#: Entries kept; floods take one entry each, so only a very long session loses its oldest.
CAPACITY = 4096


class EventLog:
    """What QEMU announced, in order; memory does not grow with a flood."""

    def __init__(self) -> None:
        self._entries: deque[Event] = deque(maxlen=CAPACITY)
        self._runs = RunLength()
        self._waiters: set[tuple[Callable[[Event], bool], asyncio.Future[Event]]] = set()
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Event]:
        return iter(list(self._entries))

    @property
    def mark(self) -> int:
        """A point in time: pass it to `expect(since=)` for events from here on."""
        return self.counts.total()

    def add(self, name: str, data: dict[str, Any], time: float) -> None:
        """Record an event and wake who waits for it."""
        event, is_new = self._runs.add(name, data, time)
        if is_new:
            self._entries.append(event)
        self.counts[name] += 1
        for waiter in list(self._waiters):
            matches, future = waiter
            if not future.done() and matches(event):
                future.set_result(event)

    async def expect(self, matches: Callable[[Event], bool], since: int = 0) -> Event:
        """The first event that matches, from mark `since` on: a past one or the next."""
        for event in self._entries:
            if event.last_number >= since and matches(event):
                return event
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        waiter = (matches, future)
        self._waiters.add(waiter)
        try:
            return await future
        finally:
            self._waiters.discard(waiter)
