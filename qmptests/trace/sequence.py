"""The order of events across both sides of a migration.

Source and destination log with the wall clock of their host. On one host (or with a known
offset) their logs can be read as one; within one log the line order is the truth, since threads
take their time stamp before they get to write.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from qmptests.errors import InputError, TestedFailure
from qmptests.trace.log import TraceLog
from qmptests.trace.matching import Wanted, accepts, describe
from qmptests.trace.parser import Entry, Event

Step: TypeAlias = tuple[str, str] | tuple[str, str, Wanted]
"""(side, event) or (side, event, wanted arguments)."""

BEFORE, AFTER = 3, 10


class NoTimestamps(InputError):
    """Logs of two sides can't be ordered without `-msg timestamp=on`."""


class Placed(NamedTuple):
    """An entry and the side it is from."""

    side: str
    entry: Entry

    def __str__(self) -> str:
        return f"{self.side}:{self.entry.line}: {self.entry}"


class SequenceMismatch(TestedFailure):
    """A step did not come in its place; notes show the steps found and the lines nearby.

    Attributes:
        step: index of the missing step, from 0.
        found: the events of the steps before it.
        nearby: lines of both sides around the last event found.
    """

    def __init__(self, text: str, step: int, found: list[Event], nearby: list[Placed]) -> None:
        super().__init__(text)
        self.step = step
        self.found = found
        self.nearby = nearby
        for line in nearby:
            self.add_note(f"  {line}")


def merged(logs: Mapping[str, TraceLog]) -> Iterator[Placed]:
    """Entries of all logs in the order of time; a message without time stays where it stood.

    Raises:
        NoTimestamps: an event without timestamp, when there is more than one log.
    """

    def keyed(side: str, log: TraceLog) -> Iterator[tuple[int, Placed]]:
        now = 0
        for entry in log.entries():
            if entry.time_us is not None:
                now = max(now, entry.time_us)
            elif isinstance(entry, Event) and len(logs) > 1:
                raise _no_timestamps(log)
            yield now, Placed(side, entry)

    streams = [keyed(side, log) for side, log in logs.items()]
    return (placed for _, placed in heapq.merge(*streams, key=lambda item: item[0]))


def match_sequence(logs: Mapping[str, TraceLog], steps: Sequence[Step]) -> list[Event]:
    """Find the steps in this order, anything else between them; returns their events.

    match_sequence(
        {"source": source, "destination": destination},
        [
            ("source", "migrate_set_state", {"new_state": "active"}),
            ("destination", "loadvm_approve_switchover"),
            ("source", "migration_thread_low_pending"),
        ],
    )

    Two events of different sides in the same microsecond may stand in either order.

    Raises:
        SequenceMismatch: a step is not found after the one before.
        NotConfirmed: a step's event was not confirmed enabled.
        NoTimestamps: steps of two sides, and a log without timestamps.
        InputError: a step names an unknown side.
    """
    wanted = [_step(step, logs) for step in steps]
    names: dict[str, set[str]] = {}
    for side, name, _ in wanted:
        names.setdefault(side, set()).add(name)
    streams = {side: logs[side].select(sorted(names[side])) for side in names}
    found: list[Event] = []
    now = 0
    for index, (side, name, args) in enumerate(wanted):
        for event in streams[side]:
            if len(names) > 1 and event.time_us is None:
                raise _no_timestamps(logs[side])
            crossed = index > 0 and wanted[index - 1][0] != side
            if crossed and (event.time_us or 0) < now:
                continue
            if event.name == name and accepts(event, args):
                now = max(now, event.time_us or 0)
                found.append(event)
                break
        else:
            raise _mismatch(logs, wanted, index, found)
    return found


def _step(step: Step, logs: Mapping[str, TraceLog]) -> tuple[str, str, Wanted]:
    side, name = step[0], step[1]
    if side not in logs:
        raise InputError(f"no trace log of side {side!r}; there is {', '.join(sorted(logs))}")
    return side, name, step[2] if len(step) == 3 else {}


def _no_timestamps(log: TraceLog) -> NoTimestamps:
    return NoTimestamps(
        f"{log.path.name} has no timestamps, so its events can't be ordered against the other "
        "side's; start QEMU with -msg timestamp=on"
    )


def _mismatch(
    logs: Mapping[str, TraceLog],
    steps: Sequence[tuple[str, str, Wanted]],
    index: int,
    found: list[Event],
) -> SequenceMismatch:
    side, name, args = steps[index]
    wanted = describe(name, args)
    sides = {step[0] for step in steps}
    used = {other: log for other, log in logs.items() if other in sides}
    text = f"step {index + 1} of {len(steps)}, {side} {wanted}, was not found"
    if found:
        last_side, last = steps[index - 1][0], found[-1]
        text += f" after {last_side} line {last.line} ({last})"
        elsewhere = [event for event in logs[side].events(name) if accepts(event, args)]
        if elsewhere:
            lines = ", ".join(str(event.line) for event in elsewhere[:5])
            text += f"; it happened only before that, at line {lines}"
            return SequenceMismatch(text, index, found, _nearby(used, last_side, last))
    others = list(itertools.islice(logs[side].events(name), 3))
    if others and args:
        text += f"; {name} happened as " + ", ".join(f'"{event.text.strip()}"' for event in others)
    elif not others:
        text += f"; {name} did not happen at all on this side"
    if found:
        return SequenceMismatch(text, index, found, _nearby(used, last_side, last))
    return SequenceMismatch(text, index, found, _nearby({side: logs[side]}, side, None))


def _nearby(logs: Mapping[str, TraceLog], side: str, last: Event | None) -> list[Placed]:
    """A few lines before `last` and more after it, or the log's first lines."""
    lines: Iterable[Placed] = merged(logs)
    before: deque[Placed] = deque(maxlen=BEFORE)
    if last is not None:
        for placed in lines:
            before.append(placed)
            if placed.side == side and placed.entry.line == last.line:
                break
    return [*before, *itertools.islice(lines, AFTER)]
