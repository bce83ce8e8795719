"""Wait for trace events while QEMU writes them, without polling.

The log is read only while somebody waits: inotify wakes the loop, one chunk is read at a time so
that a flood does not hold up the monitors, and nothing is kept but counts and a tail.
"""

import asyncio

from qmptests.errors import QmptestsError, TestedFailure
from qmptests.hosts import deadline
from qmptests.trace import parser
from qmptests.trace.inotify import FileWatch
from qmptests.trace.log import TraceLog
from qmptests.trace.matching import Wanted, accepts, describe
from qmptests.trace.parser import Entry, Event


class TraceTimeout(TestedFailure):
    """The deadline came before the event; `last` holds the log's last entries, oldest first."""

    def __init__(self, text: str, last: list[Entry]) -> None:
        super().__init__(text)
        self.last = last
        for entry in last:
            self.add_note(f"  line {entry.line}: {entry}")


class _Waiter:
    """Counts matching events until there are enough; live ones queue behind the history."""

    def __init__(self, name: str, wanted: Wanted, needed: int, after: Event | None) -> None:
        self.name = name
        self.count = 0
        self.result: Event | None = None
        self.needed = needed
        self.wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted = wanted
        self._after = 0 if after is None else after.line
        self._live: list[Event] | None = []

    @property
    def bare(self) -> bool:
        """Whether every event of the name counts."""
        return not self._wanted and not self._after

    def offer(self, event: Event) -> None:
        """Count an event of the log's past."""
        if self.result is None and event.line > self._after and accepts(event, self._wanted):
            self.count += 1
            if self.count >= self.needed:
                self.result = event
                if not self.wake.done():
                    self.wake.set_result(None)

    def offer_live(self, event: Event) -> None:
        """Count an event that was just read."""
        if self._live is None:
            self.offer(event)
        elif len(self._live) < self.needed:
            self._live.append(event)

    def history_done(self) -> None:
        """From now on live events count at once."""
        live, self._live = self._live or [], None
        for event in live:
            self.offer(event)

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        if not self.wake.done():
            self.wake.set_exception(error)


class TraceFollower:
    """Waits on a growing `TraceLog`; used on the one event loop only.

    What was logged before the call counts too: a wait for something that has already happened
    returns at once, so there is no race between doing and waiting. `after` sets a later start.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self._waiters: list[_Waiter] = []
        self._watch: FileWatch | None = None
        self._more: asyncio.Handle | None = None

    async def wait_for(
        self,
        name: str,
        /,
        *,
        timeout: float,
        what: str = "",
        after: Event | None = None,
        **wanted: object,
    ) -> Event:
        """The first such event (after `after`); the log file need not exist yet.

        Args:
            timeout: seconds.
            what: what the wait is for, in the caller's words, for the error.

        Raises:
            TraceTimeout: the deadline passed.
            NotConfirmed: the event was not confirmed enabled: it could never come.
        """
        return await self._wait(_Waiter(name, wanted, 1, after), wanted, timeout, what)

    async def wait_for_count(
        self,
        name: str,
        count: int,
        /,
        *,
        timeout: float,
        what: str = "",
        after: Event | None = None,
        **wanted: object,
    ) -> Event:
        """The event that is the `count`-th of its kind; otherwise as `wait_for`."""
        return await self._wait(_Waiter(name, wanted, count, after), wanted, timeout, what)

    async def _wait(self, waiter: _Waiter, wanted: Wanted, timeout: float, what: str) -> Event:
        self.log.require(waiter.name)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(deadline(timeout)):
                await self._offer_history(waiter)
                if waiter.result is None:
                    self._follow()
                    await waiter.wake
        except TimeoutError:
            waiter.history_done()
            await self._read_rest()
        finally:
            self._waiters.remove(waiter)
            if not self._waiters:
                self._stop()
        if waiter.result is None:
            raise self._timeout(waiter, describe(waiter.name, wanted), timeout, what)
        return waiter.result

    async def _offer_history(self, waiter: _Waiter) -> None:
        seen = self.log.seen(waiter.name)
        if waiter.bare and seen < waiter.needed:
            waiter.count = seen
        elif seen:
            for events in self.log.batches(waiter.name):
                for event in events:
                    waiter.offer(event)
                if waiter.result is not None:
                    return
                await asyncio.sleep(0)  # let the others on the loop have their turn
        waiter.history_done()

    def _follow(self) -> None:
        if self._watch is None:
            self._watch = FileWatch(self.log.path)
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._on_change)
        self._on_change()

    def _stop(self) -> None:
        if self._more is not None:
            self._more.cancel()
            self._more = None
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _on_change(self) -> None:
        if self._watch is None:
            return
        self._watch.drain()
        if self._more is None:
            self._pump()

    def _pump(self) -> None:
        """Read one chunk, and another in the loop's next turn."""
        self._more = None
        try:
            if self.log.path.exists() and self._dispatch() and self._waiters:
                self._more = asyncio.get_running_loop().call_soon(self._pump)
        except QmptestsError as error:
            for waiter in self._waiters:
                waiter.fail(error)

    def _dispatch(self) -> bool:
        entries = self.log.read_chunk()
        if entries is None:
            return False
        names = {waiter.name for waiter in self._waiters}
        for event in parser.select(entries, names):
            for waiter in self._waiters:
                if waiter.name == event.name:
                    waiter.offer_live(event)
        return True

    async def _read_rest(self) -> None:
        """Read what was written before the deadline: the writer may be ahead of us."""
        if not self.log.path.exists():
            return
        end = self.log.path.stat().st_size
        while self.log.size < end and self._dispatch():
            await asyncio.sleep(0)

    def _timeout(self, waiter: _Waiter, event: str, timeout: float, what: str) -> TraceTimeout:
        times = f"{waiter.needed} times (came {waiter.count} times) " if waiter.needed > 1 else ""
        purpose = f", for {what}" if what else ""
        last = self.log.tail
        end = f'its last line is "{last[-1]}"' if last else "it is empty or not there"
        return TraceTimeout(
            f"waited {timeout:g} s for trace event {event} {times}in {self.log.path.name}"
            f"{purpose}; {end}",
            last[-10:],
        )
