"""The passes over memory, by MIGRATION_PASS: thousands a second while QEMU waits."""

import re

from msgspec.structs import replace

from qmptests.downtime.moments import Moment
from qmptests.downtime.precopy_data import Bandwidth, Left, Pass, thinned

#: A line of the transcript that stands for many events.
_MORE = re.compile(r"\((\d+) more\)")


class Passes:
    """Collects them; runs in which nothing changed are one.

    10.0 tells of a pass before it asks the devices, 11.1 after: so what a pass began with are the
    answers of its first questions, or of those just before it.
    """

    def __init__(self) -> None:
        self._done: list[Pass] = []
        self._now: Pass | None = None
        self._answered = False
        #: How many there were.
        self.count = 0
        #: Whether ones that differ had to be put together.
        self.merged = False

    @property
    def last(self) -> int:
        """The number of the last one; the first is 1, of which 11.1 does not tell."""
        return 0 if self._now is None else self._now.until

    def see(self, moment: Moment, left: Left, bandwidth: Bandwidth | None) -> None:
        """An event, or a line that stands for many."""
        number = moment.args.get("pass")
        if not isinstance(number, int):
            return
        many = _MORE.search(moment.text)
        count = int(many[1]) if many else 1
        self._close(moment.at_us, left, bandwidth)
        self.count += count
        first = number - count + 1
        self._now = Pass(first, number, moment.at_us, moment.at_us, left, left, None)
        self._answered = False

    def asked(self, left: Left) -> None:
        """The sizes were asked for anew."""
        if self._now is not None and not self._answered:
            self._now = replace(self._now, first=left)

    def read(self) -> None:
        """Data were read: from now on answers are no longer the beginning."""
        self._answered = True

    def end(self, at_us: int, left: Left, bandwidth: Bandwidth | None) -> list[Pass]:
        """All of them."""
        self._close(at_us, left, bandwidth)
        self._now = None
        return self._done

    def _close(self, at_us: int, left: Left, bandwidth: Bandwidth | None) -> None:
        now = self._now
        if now is None:
            return
        expected = None
        if bandwidth is not None and bandwidth.switchover:
            expected = left.total * 1e3 / bandwidth.switchover
        now = replace(now, end_us=max(at_us, now.begin_us), last=left, expected_ms=expected)
        before = self._done[-1] if self._done else None
        if before is not None and before.last == now.first == now.last == before.first:
            self._done[-1] = _joined(before, now)
            return
        self._done.append(now)
        count = len(self._done)
        thinned(self._done, _joined)
        self.merged = self.merged or len(self._done) < count


def _joined(one: Pass, two: Pass) -> Pass:
    return replace(two, number=one.number, begin_us=one.begin_us, first=one.first)
