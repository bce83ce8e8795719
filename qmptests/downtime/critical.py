"""The critical path of downtime: who had each instant, from VM stop to VM running.

It is walked backwards from the running VM. While the destination is at work, the instant is the
destination's; where it waits for the stream, the path goes on at the source, at whatever that did
then. So each instant has one owner, and the lengths add up to the downtime.
"""

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from qmptests.downtime.sources import DESTINATION, SOURCE
from qmptests.downtime.work import Activity, Step, Work

#: The owner of instants of which the evidence doesn't say what was done.
UNATTRIBUTED = ""

READ = "read"
SEND = "send"
WRITE = "write"
CONFIG = "config"

#: A load whose writes are known waits for the stream when it writes nothing for so long, in
#: microseconds, and the source still saves. QEMU's own work between two writes takes some 30.
WAITS_US = 1000

_Lane: TypeAlias = list[Activity]


class Segment(msgspec.Struct, frozen=True, gc=False):
    """A piece of the path: microseconds on the source's clock.

    `owner`: a device, a section or a part of QEMU, UNATTRIBUTED if that is not known. `what`: of a
    device's save, "read" from it or "send" to the stream; of its load, "write" to it or "config".
    """

    begin_us: int
    end_us: int
    side: str
    step: str
    owner: str
    what: str = ""

    @property
    def us(self) -> int:
        """How long it is."""
        return self.end_us - self.begin_us


def path(source: Work, destination: Work, begin: int, end: int) -> list[Segment]:
    """The path from `begin` to `end`, without a gap, in order of time."""
    walk = _Walk(source, destination, begin, end)
    walk.destination()
    walk.source()
    walk.take(begin, SOURCE, "", UNATTRIBUTED)
    return _joined(reversed(walk.segments))


class _Walk:
    """Backwards: `now` is where the path has come to."""

    def __init__(self, source: Work, destination: Work, begin: int, end: int) -> None:
        self.segments: list[Segment] = []
        self.now = end
        self._begin = begin
        self._source = source
        self._destination = destination
        self._saved = {a.section: a.end for a in source.main if a.step is Step.SAVE}
        saves = [a.end for a in (*source.main, *source.lanes.values()) if a.step is Step.SAVE]
        self._all_saved = max(saves, default=begin)

    def take(self, since: int, side: str, step: str, owner: str, what: str = "") -> None:
        """All from `since` on is this one's."""
        since = max(since, self._begin)
        if since < self.now:
            self.segments.append(Segment(since, self.now, side, step, owner, what))
            self.now = since

    def destination(self) -> None:
        """Until the destination waits for the stream."""
        work = self._destination
        while self.now > self._begin:
            activity = work.at(work.main, self.now)
            idle_since = activity.end if activity else self._begin
            if idle_since < self.now:
                if self._idle(idle_since):
                    return
            elif activity is not None:
                since = self._waited(self._ready(activity), activity)
                if since < self.now:
                    self._at_work(since, activity)
                if since > activity.begin:
                    return

    def _ready(self, activity: Activity) -> int:
        """From when on it had all its data: a load waits until its section was saved."""
        if activity.step is not Step.LOAD:
            return activity.begin
        saved = self._saved.get(activity.section, activity.begin)
        return max(activity.begin, min(saved, self.now))

    def _waited(self, since: int, activity: Activity) -> int:
        """The last moment since then at which a load waited for the source; `since` if none.

        What ends a section may stay in the source's buffer while that reads the next device.
        """
        calls = self._destination.calls.get(activity.owner, [])
        loaded = [c for c in _within(calls, activity.begin, activity.end) if c.section == WRITE]
        if not loaded:
            return since
        until = self.now
        for end, begin in [(c.end, c.begin) for c in reversed(loaded)] + [(activity.begin, 0)]:
            if until <= since:
                return since
            if until - end > WAITS_US and end < self._all_saved:
                return min(until, self._all_saved)
            until = min(until, begin)
        return since

    def _at_work(self, since: int, activity: Activity) -> None:
        calls = self._destination.calls.get(activity.owner, [])
        self._split(since, calls, DESTINATION, activity, WRITE, "")

    def _idle(self, since: int) -> bool:
        """The main lane has nothing from `since` to now: threads work, or the stream is awaited.

        Returns whether the path went on to the source.
        """
        threads = [a for a in self._destination.lanes.values() if a.begin < self.now > since]
        thread = max(threads, key=lambda a: a.end, default=None)
        if thread is not None and thread.end > since:
            if thread.end < self.now:
                self._nobody(max(since, thread.end))
            return self._thread(thread)
        if self._all_saved > since:
            self._nobody(self._all_saved)
            return True
        self._nobody(since)
        return False

    def _nobody(self, since: int) -> None:
        self.take(since, DESTINATION, Step.LOAD, UNATTRIBUTED)

    def _thread(self, thread: Activity) -> bool:
        """A device's loading thread; returns whether it came to wait for its source."""
        device = thread.owner
        saving = self._source.lanes.get(device)
        saved = saving.end if saving else thread.begin
        work = self._destination
        while self.now > max(thread.begin, self._begin):
            if self.now <= saved:
                self._save_thread(saving)
                return True
            config = work.at(work.config, self.now)
            if config is not None and config.end >= self.now:
                # It keeps the big lock: whatever else a thread wants to load waits for that.
                self.take(max(config.begin, saved), DESTINATION, Step.LOAD, config.owner, CONFIG)
                continue
            since = max(thread.begin, saved, config.end if config else 0)
            self._split(since, work.calls.get(device, []), DESTINATION, thread, WRITE, "")
        return False

    def source(self) -> None:
        """Down to the beginning."""
        work = self._source
        while self.now > self._begin:
            activity = work.at(work.main, self.now)
            idle_since = activity.end if activity else self._begin
            if idle_since < self.now:
                threads = [a for a in work.lanes.values() if a.begin < self.now]
                thread = max(threads, key=lambda a: a.end, default=None)
                if thread is not None and thread.end > idle_since:
                    self.take(thread.end, SOURCE, Step.SAVE, UNATTRIBUTED)
                    self._save_thread(thread)
                else:
                    self.take(idle_since, SOURCE, self._step_before(), UNATTRIBUTED)
            elif activity is not None and activity.step is Step.SAVE:
                self._save(activity)
            elif activity is not None:
                self.take(activity.begin, SOURCE, activity.step, activity.owner)

    def _step_before(self) -> str:
        """The step to which an idle time of the source leads."""
        later = [a for a in self._source.main if a.begin >= self.now]
        return later[0].step if later else Step.SAVE

    def _save_thread(self, thread: Activity | None) -> None:
        if thread is not None:
            self._save(thread)

    def _save(self, activity: Activity) -> None:
        reads = [c for c in self._source.calls.get(activity.owner, []) if c.section == READ]
        if not reads:
            self._sending(activity.begin, activity, "")
            return
        for call in reversed(_within(reads, activity.begin, self.now)):
            self._sending(call.end, activity, SEND)
            self.take(max(call.begin, activity.begin), SOURCE, Step.SAVE, activity.owner, READ)
        self._sending(activity.begin, activity, SEND)

    def _sending(self, since: int, activity: Activity, what: str) -> None:
        """While the source sends, what the destination is known to write holds up the stream."""
        writes = [
            call
            for calls in self._destination.calls.values()
            for call in _within(calls, since, self.now)
            if call.section == WRITE
        ]
        for call in sorted(writes, key=lambda c: c.end, reverse=True):
            self.take(max(call.end, since), SOURCE, Step.SAVE, activity.owner, what)
            self.take(max(call.begin, since), DESTINATION, Step.LOAD, call.owner, WRITE)
        self.take(since, SOURCE, Step.SAVE, activity.owner, what)

    def _split(
        self, since: int, calls: _Lane, side: str, activity: Activity, within: str, between: str
    ) -> None:
        """All since then is the activity's, its calls told apart from the time between them."""
        for call in reversed(_within(calls, since, self.now)):
            self.take(max(call.end, since), side, activity.step, activity.owner, between)
            self.take(max(call.begin, since), side, activity.step, activity.owner, within)
        self.take(since, side, activity.step, activity.owner, between)


def _within(calls: _Lane, begin: int, end: int) -> _Lane:
    return [call for call in calls if call.begin < end and call.end > begin]


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """With one segment for each run of the same owner and doing."""
    found: list[Segment] = []
    for segment in segments:
        last = found[-1] if found else None
        if last is not None and _doing(last) == _doing(segment):
            found[-1] = msgspec.structs.replace(last, end_us=segment.end_us)
        else:
            found.append(segment)
    return found


def _doing(segment: Segment) -> tuple[str, str, str, str]:
    return segment.side, segment.step, segment.owner, segment.what
