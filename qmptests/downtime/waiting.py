"""Intervals with one reason each, which cover a time without gap or overlap."""

from msgspec.structs import replace

from qmptests.downtime.precopy_data import Interval, Left, Why, thinned


class Waiting:
    """Collects reasons in order of time. `begin_us`: where the first interval begins."""

    def __init__(self, begin_us: int, left: Left) -> None:
        self._done: list[Interval] = []
        self._now = Interval(begin_us, begin_us, Why.SETUP, (), left, left, None)
        #: Whether intervals had to be put together.
        self.merged = False

    def turn(
        self, at_us: int, why: Why, devices: tuple[str, ...], left: Left, fits: int | None
    ) -> None:
        """From `at_us` on this is the reason; a time before the last one counts as that."""
        now = self._now
        at_us = max(at_us, now.end_us)
        if (now.why, now.devices) == (why, devices):
            self._now = replace(now, end_us=at_us, last=left, fits=fits)
            return
        self._close(at_us)
        self._now = Interval(at_us, at_us, why, devices, left, left, fits)

    def end(self, at_us: int) -> list[Interval]:
        """All of them, up to `at_us`, which may lie before what came last."""
        self._close(max(at_us, self._now.end_us))
        kept = [i for i in self._done if i.begin_us < at_us]
        if kept and kept[-1].end_us > at_us:
            kept[-1] = replace(kept[-1], end_us=at_us)
        return kept

    def _close(self, at_us: int) -> None:
        now = self._now
        if at_us == now.begin_us:
            return  # it took no time
        now = replace(now, end_us=at_us)
        last = self._done[-1] if self._done else None
        if last is not None and (last.why, last.devices) == (now.why, now.devices):
            self._done[-1] = replace(now, begin_us=last.begin_us, first=last.first)
            return
        self._done.append(now)
        count = len(self._done)
        thinned(self._done, _joined)
        self.merged = self.merged or len(self._done) < count


def _joined(one: Interval, two: Interval) -> Interval:
    """The longer one's reason for both."""
    longer = max(one, two, key=lambda interval: interval.us)
    return replace(longer, begin_us=one.begin_us, end_us=two.end_us, first=one.first, last=two.last)
