"""The time line: what all witnesses saw of one attempt, merged by time in bounded memory."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

import msgspec

from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.ordering import by_time
from qmptests.downtime.sources import ALWAYS, DESTINATION, Evidence


class Timeline:
    """The moments of an attempt's sides on the source's clock.

    `offset_us`: how far the destination's clock is ahead of the source's. `whole`: all that the
    source's logs hold, of other attempts too.
    """

    def __init__(self, evidence: Evidence, offset_us: int = 0, *, whole: bool = False) -> None:
        self.evidence = evidence
        self.offset_us = offset_us
        self._span = ALWAYS if whole else evidence.span

    def moments(
        self,
        sides: Collection[str] | None = None,
        witnesses: Collection[Witness] | None = None,
        device: str = "",
    ) -> Iterator[Moment]:
        """In order of time: of these sides (roles or sides' names), witnesses and this device."""
        return chain.from_iterable(self.batches(sides, witnesses, device))

    def batches(
        self,
        sides: Collection[str] | None = None,
        witnesses: Collection[Witness] | None = None,
        device: str = "",
    ) -> Iterator[list[Moment]]:
        """The same, a list of some at a time."""
        wanted = list(Witness) if witnesses is None else witnesses
        streams: list[Iterator[list[Moment]]] = []
        for side in self.evidence.sides if sides is None else sides:
            for stream in self.evidence.streams(side, wanted):
                streams.append(self._adapted(self.evidence.sides.get(side, side), stream))
        for batch in merged(streams):
            moments = [m for m in batch if m.device == device] if device else batch
            if moments:
                yield moments

    def _adapted(self, side: str, stream: Iterator[list[Moment]]) -> Iterator[list[Moment]]:
        """The source is the same in all attempts; a destination has a clock of its own."""
        if side == self.evidence.sides.get(DESTINATION):
            return _shifted(stream, self.offset_us) if self.offset_us else stream
        since, until = self._span
        return stream if (since, until) == ALWAYS else _within(stream, since, until)


def _within(stream: Iterable[list[Moment]], since: int, until: int) -> Iterator[list[Moment]]:
    for batch in stream:
        yield [moment for moment in batch if since <= moment.at_us < until]


def _shifted(stream: Iterable[list[Moment]], offset_us: int) -> Iterator[list[Moment]]:
    replace = msgspec.structs.replace
    for batch in stream:
        yield [replace(moment, at_us=moment.at_us - offset_us) for moment in batch]


def merged(streams: Iterable[Iterator[list[Moment]]]) -> Iterator[list[Moment]]:
    """Streams of lists as one, lists that are not empty.

    A list at a time, as sorting what is nearly sorted is cheaper than a heap's turn for each. A
    stream whose clock was set back has its turn first until it has caught up.
    """
    heads: list[tuple[list[Moment], Iterator[list[Moment]]]] = [([], s) for s in streams]
    while True:
        filled = []
        for head, stream in heads:
            batch = head or next(filter(None, stream), [])
            if batch:
                filled.append((batch, stream))
        if not filled:
            return
        until = min(batch[-1].at_us for batch, _ in filled)
        ready: list[Moment] = []
        heads = []
        for batch, stream in filled:
            index = bisect_right(batch, until, key=by_time)
            ready += batch[:index]
            heads.append((batch[index:], stream))
        ready.sort(key=by_time)
        yield ready
