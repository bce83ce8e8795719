"""A trace log as an object: what happened, how often, and what certainly did not.

A zero needs a witness: a count of an event that was never switched on, or that the build does
not have, is zero for the wrong reason. So each question by name is an error unless the event was
confirmed enabled (QMP `trace-event-get-state`), and `never` wants another event that did happen.
"""

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from qmptests import files
from qmptests.errors import InputError, TestedFailure
from qmptests.trace import formats, parser
from qmptests.trace.matching import Wanted, accepts, describe
from qmptests.trace.parser import Entry, Event
from qmptests.trace.volume import Meter, Volume

TAIL = 20


class NotConfirmed(InputError):
    """The question is about an event that nobody confirmed to be switched on."""


class NoWitness(TestedFailure):
    """The event that should prove that the log was alive is not in it."""


class TraceLog:
    """One side's trace log, finished or still growing.

    It keeps counts and a short tail; events themselves are read from the file again when asked
    for, so that a million of them cost no memory. Each question first reads what is new.

    Args:
        path: the log; it may not exist yet.
        enabled: names of the events that were confirmed enabled.
        known: all event names of the build, to tell events from messages with certainty.
    """

    def __init__(
        self,
        path: Path,
        *,
        enabled: Iterable[str] = (),
        known: Collection[str] | None = None,
    ) -> None:
        self.path = path
        self._known = None if known is None else frozenset(known)
        self._enabled = set(enabled)
        self._parser = parser.Parser(self._known)
        self._meter = Meter()
        self._tail: deque[Entry] = deque(maxlen=TAIL)
        self._size = 0

    def __repr__(self) -> str:
        return f"TraceLog({str(self.path)!r})"

    @property
    def enabled(self) -> frozenset[str]:
        """The events confirmed enabled."""
        return frozenset(self._enabled)

    def confirm(self, names: Iterable[str]) -> None:
        """Say that these events were confirmed enabled (later, at run time)."""
        self._enabled.update(names)

    def require(self, name: str) -> None:
        """Raise `NotConfirmed` unless the event was confirmed enabled."""
        if name not in self._enabled:
            unknown = self._known is not None and name not in self._known
            why = "this build has no such event" if unknown else "switch it on for this VM"
            raise NotConfirmed(
                f"trace event {name} was not confirmed enabled in {self.path.name}, so its absence "
                f"would prove nothing; {why}"
            )

    def count(
        self,
        name: str,
        /,
        *,
        after: Event | None = None,
        before: Event | None = None,
        **wanted: object,
    ) -> int:
        """How often the event happened with these arguments, between two events of this log.

        Raises:
            NotConfirmed: the event was not confirmed enabled.
            InputError: there is no log, or the event has no argument of that name in this log.
        """
        self.require(name)
        self.refresh()
        if not wanted and after is None and before is None:
            return self._meter.counts[name]
        return sum(1 for _ in self.events(name, after=after, before=before, **wanted))

    def events(
        self,
        name: str,
        /,
        *,
        after: Event | None = None,
        before: Event | None = None,
        **wanted: object,
    ) -> Iterator[Event]:
        """These events in the log's order; raises as `count` does."""
        self.require(name)
        self.refresh()
        return self._scan(name, after, before, wanted)

    def first(
        self,
        name: str,
        /,
        *,
        after: Event | None = None,
        before: Event | None = None,
        **wanted: object,
    ) -> Event | None:
        """The first such event, or None; raises as `count` does."""
        return next(self.events(name, after=after, before=before, **wanted), None)

    def last(
        self,
        name: str,
        /,
        *,
        after: Event | None = None,
        before: Event | None = None,
        **wanted: object,
    ) -> Event | None:
        """The last such event, or None; raises as `count` does."""
        found = deque(self.events(name, after=after, before=before, **wanted), maxlen=1)
        return found[0] if found else None

    def never(
        self,
        name: str,
        /,
        *,
        witness: str,
        after: Event | None = None,
        before: Event | None = None,
        **wanted: object,
    ) -> bool:
        """Whether the event never happened with these arguments, while the witness did.

        `after` and `before` bound both.

        Raises:
            NotConfirmed: one of the two was not confirmed enabled.
            NoWitness: the witness did not happen, so the silence says nothing.
        """
        if witness == name:
            raise InputError(f"trace event {name} can't be its own witness; name another event")
        self.require(name)
        if self.count(witness, after=after, before=before) == 0:
            raise NoWitness(
                f"can't say that {describe(name, wanted)} never happened in {self.path.name}: its "
                f"witness {witness} did not happen either"
            )
        return self.count(name, after=after, before=before, **wanted) == 0

    def entries(self) -> Iterator[Entry]:
        """Everything in the log, messages too, read from the file again."""
        self.refresh()
        return parser.read(self.path, known=self._known, size=self._size)

    def select(self, names: Collection[str]) -> Iterator[Event]:
        """Events of several names in the log's order; raises as `count` does."""
        for name in names:
            self.require(name)
        self.refresh()
        return itertools.chain.from_iterable(self.batches(*names))

    @property
    def volume(self) -> Volume:
        """What the log holds, as data."""
        self.refresh()
        return self._meter.volume(
            lines=self._parser.lines, size=self._size, truncated=self._parser.partial
        )

    @property
    def tail(self) -> list[Entry]:
        """The last entries that were read; does not read on."""
        return list(self._tail)

    @property
    def size(self) -> int:
        """Bytes read so far; does not read on."""
        return self._size

    def seen(self, name: str) -> int:
        """Count of an event in what was read so far; does not read on, confirms nothing."""
        return self._meter.counts[name]

    def refresh(self) -> None:
        """Read what was written since; a log that does not exist is an `InputError`."""
        while self.read_chunk() is not None:
            pass

    def read_chunk(self) -> list[Entry] | None:
        """The entries of the next chunk of the file, or None at its end for now.

        Raises:
            InputError: the log can't be read, or has become shorter.
        """
        try:
            with files.open_log(self.path) as file:
                end = file.seek(0, 2)
                if end < self._size:
                    raise InputError(
                        f"the trace log {self.path} shrank from {self._size} to {end} bytes while "
                        "it was read; keep QEMU from opening it twice"
                    )
                file.seek(self._size)
                data = file.read(parser.CHUNK)
        except OSError as error:
            raise parser.cannot_read(self.path, error) from error
        if not data:
            return None
        self._size += len(data)
        entries = self._parser.feed(data)
        if entries:
            self._meter.add(entries)
            self._tail.extend(entries[-TAIL:])
        return entries

    def batches(self, *names: str) -> Iterator[list[Event]]:
        """These events in what was read so far, a list for each chunk of the file."""
        return parser.read_events(self.path, names, known=self._known, size=self._size)

    def _scan(
        self, name: str, after: Event | None, before: Event | None, wanted: Wanted
    ) -> Iterator[Event]:
        if not self._meter.counts[name]:
            return
        missing = {formats.key_name(key) for key in wanted}
        seen: set[str] = set()
        for event in itertools.chain.from_iterable(self.batches(name)):
            if missing:
                seen |= event.args.keys()
                missing -= seen
            if after is not None and event.line <= after.line:
                continue
            if before is not None and event.line >= before.line:
                break
            if accepts(event, wanted):
                yield event
        if missing:
            # A wrong argument name would make a zero for the wrong reason, too.
            raise InputError(
                f"trace event {name} has no argument {', '.join(sorted(missing))} in "
                f"{self.path.name}; it has {', '.join(sorted(seen)) or 'none that can be read'}"
            )
