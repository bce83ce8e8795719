"""The time line in Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open.

Each side is a process, what belongs together a track of it; the critical path of the downtime is a
process of its own. The format: "Trace Event Format" of the Chromium project's Trace Event Profiling
Tool. Times are microseconds since the first of what is written: Perfetto drops what is before 0.
"""

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any, TextIO

from qmptests.downtime.breakdown import Breakdown
from qmptests.downtime.critical import Segment
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.sources import SOURCE

CRITICAL_PATH = "downtime, critical path"
#: From the top; the destination below.
FIRST = (CRITICAL_PATH, SOURCE)
MIGRATION = "migration"
SECTIONS = "sections"
#: What goes from one side to the other.
STREAM = "stream"
#: A name that one side says, and the one that the other hears, with the beginning of their texts.
HEARD = {
    ("savevm_send_switchover_start", ""): ("loadvm_process_command", "com=SWITCHOVER_START"),
    ("migrate_send_rp_message", "7:"): ("source_return_path_thread_switchover_acked", ""),
}
_COUNTED = re.compile(r"\b(initial_bytes|dirty_bytes|stop_copy_length)=(\d+)")
_TRACKS = {
    Witness.TRACE: "trace events",
    Witness.QMP: "QMP",
    Witness.GUEST: "guest",
    Witness.MESSAGE: "messages",
    Witness.CALLS: "calls",
}


def write(moments: Iterable[Moment], stream: TextIO, breakdown: Breakdown | None = None) -> None:
    """Write the moments, which come in order of time on one clock, in bounded memory."""
    rest = iter(moments)
    first = list(islice(rest, 1))
    path = breakdown.path if breakdown is not None else []
    begins = [moment.at_us for moment in first] + [segment.begin_us for segment in path]
    writer = _Writer(stream, min(begins, default=0))
    writer.path(path)
    for moment in chain(first, rest):
        writer.moment(moment)
    writer.close()


class _Writer:
    def __init__(self, stream: TextIO, start_us: int) -> None:
        self._stream = stream
        self._separator = ""
        self._start_us = start_us
        self._processes: dict[str, int] = {}
        self._tracks: dict[tuple[str, str], int] = {}
        #: Where the last slice of a track ended: none may reach into another.
        self._ends: dict[tuple[str, str], int] = {}
        #: What a track of states is in, and since when.
        self._states: dict[tuple[str, str], tuple[int, str]] = {}
        #: When something was said that the other side has not heard yet.
        self._said: dict[str, deque[dict[str, Any]]] = {}
        self._flows = 0
        self._last_us = start_us
        stream.write(f'{{"displayTimeUnit":"ms","otherData":{{"start_us":{start_us}}},')
        stream.write('"traceEvents":[\n')

    def path(self, path: Iterable[Segment]) -> None:
        """The breakdown, a slice for each segment."""
        for segment in path:
            name = " ".join(filter(None, [segment.owner or "unattributed", segment.what]))
            args = {"side": segment.side, "step": segment.step}
            self._slice(CRITICAL_PATH, "who had it", segment.begin_us, segment.us, name, args)

    def moment(self, moment: Moment) -> None:
        """One moment, on the tracks that it belongs to."""
        self._last_us = max(self._last_us, moment.at_us)
        side, witness, name = moment.side, moment.witness, moment.name
        args = {"text": moment.text} if moment.text else {}
        if witness is Witness.CALLS:
            self._call(moment, args)
            return
        if witness is Witness.QMP and name == "MIGRATION":
            self._state(side, MIGRATION, moment.at_us, moment.text.rpartition("=")[2])
            return
        if witness is Witness.TRACE:
            said = moment.args
            if name.startswith("vmstate_downtime_") and "downtime" in said:
                us = max(0, moment.number("downtime"))
                what = "save" if name.endswith("save") else "load"
                begin = moment.at_us - us
                self._slice(side, SECTIONS, begin, us, f"{what} {said.get('idstr')}", args)
                return
            if name == "vfio_migration_set_device_state":
                self._state(side, f"{moment.device} state", moment.at_us, str(said.get("state")))
            elif name == "migrate_transferred":
                rates = {k: v for k, v in said.items() if k in ("bandwidth", "switchover_bw")}
                self._event("C", side, "", moment.at_us, "bandwidth, bytes per ms", args=rates)
        if not self._flow(moment, args):
            self._event("i", side, _TRACKS[witness], moment.at_us, name, s="t", args=args)

    def close(self) -> None:
        """End what is still going on."""
        for (side, track), (since, state) in self._states.items():
            self._slice(side, track, since, self._last_us - since, state)
        self._stream.write("\n]}\n")

    def _call(self, moment: Moment, args: Mapping[str, Any]) -> None:
        device = moment.device or "emulation"
        if moment.us is None:
            self._event(
                "i", moment.side, f"{device} calls", moment.at_us, moment.name, s="t", args=args
            )
        else:
            track, number = f"{device} calls", 1
            while self._ends.get((moment.side, track), 0) > moment.at_us:
                number += 1
                track = f"{device} calls {number}"
            self._slice(moment.side, track, moment.at_us, moment.us, moment.name, args)
        for key, value in _COUNTED.findall(moment.text):
            # a counter each: chrome://tracing knows no series but those of a counter's first event
            args = {"bytes": int(value)}
            self._event("C", moment.side, "", moment.at_us, f"{device} {key}", args=args)

    def _state(self, side: str, track: str, at_us: int, state: str) -> None:
        before = self._states.get((side, track))
        if before is not None:
            self._slice(side, track, before[0], at_us - before[0], before[1])
        self._states[side, track] = at_us, state

    def _slice(
        self,
        side: str,
        track: str,
        begin_us: int,
        us: int,
        name: str,
        args: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A slice that begins no earlier than the last one of its track ended."""
        end = begin_us + us
        begin = max(begin_us, self._ends.get((side, track), self._start_us))
        self._ends[side, track] = max(end, begin)
        dur = max(0, end - begin)
        return self._event("X", side, track, begin, name, dur=dur, args=args or {})

    def _flow(self, moment: Moment, args: Mapping[str, Any]) -> bool:
        """A slice for what one side said or the other heard, and an arrow between both.

        Returns whether the moment is one of these.
        """
        text = moment.text.strip()
        for (said, said_text), (heard, heard_text) in HEARD.items():
            speaks = moment.name == said and text.startswith(said_text)
            if not speaks and not (moment.name == heard and text.startswith(heard_text)):
                continue
            here = self._slice(moment.side, STREAM, moment.at_us, 1, moment.name, args)
            waiting = self._said.setdefault(said, deque(maxlen=1000))
            if speaks:
                waiting.append(here)
            elif waiting:
                self._flows += 1
                for phase, there in (("s", waiting.popleft()), ("f", here)):
                    place = {key: there[key] for key in ("pid", "tid", "ts")}
                    about = {"bp": "e", "cat": "stream", "name": said, "id": self._flows}
                    self._put({"ph": phase, **place, **about})
            return True
        return False

    def _event(
        self, phase: str, side: str, track: str, at_us: int, name: str, **more: Any
    ) -> dict[str, Any]:
        event = {
            "ph": phase,
            "name": name,
            "pid": self._process(side),
            "tid": self._track(side, track),
            "ts": max(0, at_us - self._start_us),
            **more,
        }
        self._put(event)
        return event

    def _process(self, name: str) -> int:
        pid = self._processes.get(name)
        if pid is None:
            pid = self._processes[name] = len(self._processes) + 1
            self._meta("process_name", pid, 0, name=name)
            place = FIRST.index(name) if name in FIRST else len(FIRST)
            self._meta("process_sort_index", pid, 0, sort_index=place)
        return pid

    def _track(self, side: str, name: str) -> int:
        """Its number in its process; "" is 0, what belongs to the process itself."""
        if not name:
            return 0
        tid = self._tracks.get((side, name))
        if tid is None:
            tid = self._tracks[side, name] = len(self._tracks) + 1
            self._meta("thread_name", self._process(side), tid, name=name)
        return tid

    def _meta(self, kind: str, pid: int, tid: int, **args: str | int) -> None:
        self._put({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args})

    def _put(self, event: dict[str, Any]) -> None:
        self._stream.write(self._separator + json.dumps(event, separators=(",", ":")))
        self._separator = ",\n"
