"""The precopy story: from `migrate` to the decision to switch over, and why it took so long.

Made of QEMU's default trace set, the QMP transcript and the devices' call logs, in one go through
them. Events that flood are used where they were traced; what they alone tell is otherwise said not
to be known.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from qmptests.downtime import acks, instants, remaining
from qmptests.downtime.acks import Acks
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.passes import Passes
from qmptests.downtime.precopy_data import Bandwidth, Story, Why, thinned
from qmptests.downtime.precopy_text import lines, size
from qmptests.downtime.remaining import Remaining
from qmptests.downtime.sources import DESTINATION, SOURCE, Evidence
from qmptests.downtime.timeline import merged
from qmptests.downtime.waiting import Waiting
from qmptests.migration.settings import DOWNTIME_LIMIT_MS

__all__ = ["SWITCHOVER", "Story", "lines", "story"]

#: How precopy ends if all goes well.
SWITCHOVER = "switchover"

_LIMIT = "downtime-limit"
_MAX = "max-bandwidth"
_NUMBER = re.compile(r"([\w-]+)=(\d+)")
#: QEMU's default for max-bandwidth, bytes a second; 0 is no limit.
MAX_BANDWIDTH = 128 << 20
#: What is measured when QEMU sends as fast as it may.
_NEARLY = 0.95
_SET = "migrate-set-parameters"
_SIZES = frozenset((*remaining.CALLS, *remaining.TRACED))
_ACKS = frozenset((*acks.SOURCE_TRACED, *acks.DESTINATION_TRACED))
_NAMES = (
    *("migrate", _SET, "MIGRATION", "MIGRATION_PASS", "STOP", "RESUME"),
    *("migrate_set_state", "migrate_transferred", "migration_thread_low_pending"),
    "vmstate_downtime_checkpoint",
    *_SIZES,
    *acks.SOURCE_TRACED,
)
#: States in which it is not decided yet; any other ends precopy.
_GOING_ON = frozenset({"none", "setup", "wait-unplug", "active"})
#: States in which it has been, whoever saw it decided.
_DECIDED = frozenset({"device", "pre-switchover", "completed"})


def story(evidence: Evidence, offset_us: int = 0) -> Story:
    """The story of an attempt.

    `offset_us`: how far the destination's clock is ahead of the source's.
    """
    teller = _Teller(evidence)
    for batch in merged(_streams(evidence, offset_us)):
        for moment in batch:
            teller.see(moment)
        if teller.ended:
            break
    return teller.told()


def _streams(evidence: Evidence, offset_us: int) -> Iterator[Iterator[list[Moment]]]:
    since, until = instants.attempt(evidence)
    if SOURCE in evidence.sides:
        for stream in evidence.streams(SOURCE, (Witness.QMP, Witness.TRACE, Witness.CALLS), _NAMES):
            yield _between(stream, since, until)
    if DESTINATION in evidence.sides:
        traced = (Witness.TRACE,)
        for stream in evidence.streams(DESTINATION, traced, acks.DESTINATION_TRACED):
            yield _shifted(stream, offset_us)


def _between(
    stream: Iterable[list[Moment]], since: int, until: int | None
) -> Iterator[list[Moment]]:
    for batch in stream:
        yield [m for m in batch if since <= m.at_us and (until is None or m.at_us < until)]


def _shifted(stream: Iterable[list[Moment]], offset_us: int) -> Iterator[list[Moment]]:
    for batch in stream:
        yield [replace(moment, at_us=moment.at_us - offset_us) for moment in batch]


class _Teller:
    """Goes through the moments once."""

    def __init__(self, evidence: Evidence) -> None:
        self._attempt = evidence.attempt
        outcome = evidence.outcome
        parameters = {} if outcome is None else outcome.plan.parameters
        self._limit_ms = int(parameters.get(_LIMIT, DOWNTIME_LIMIT_MS))
        self._max_bandwidth = int(parameters.get(_MAX, MAX_BANDWIDTH))
        self._remaining = Remaining(evidence.devices(SOURCE))
        self._acks = Acks(acks.mechanism(evidence))
        self._passes = Passes()
        self._bandwidths: list[Bandwidth] = []
        self._waiting: Waiting | None = None
        self._begin_us = self._last_us = 0
        self._end_us: int | None = None
        self._active = False
        self._paused_us: int | None = None
        self._pending: int | None = None
        #: How precopy ended, once it has.
        self.ended = ""

    def see(self, moment: Moment) -> None:  # noqa: PLR0912 - a table of events
        """The next moment, in order of time."""
        name, at = moment.name, moment.at_us
        if name == _SET:
            self._set(moment)
        if self.ended or (self._waiting is None and not self._begins(moment)):
            return
        self._last_us = max(self._last_us, at)
        if name in _SIZES:
            if self._remaining.see(moment):
                self._passes.asked(self._remaining.left)
            else:
                self._read(moment)
        elif name in _ACKS:
            self._acks.see(moment)
        elif name == "MIGRATION_PASS":
            self._passes.see(moment, self._remaining.left, self._bandwidth)
        elif name == "migrate_transferred":
            self._reckoned(moment)
        elif name in ("STOP", "RESUME"):
            self._paused_us = at if name == "STOP" else None
        elif name == "migration_thread_low_pending":
            self._pending = _number(moment, "pending")
            self._end(at, SWITCHOVER)
        elif moment.text.strip() == "src-downtime-start":
            self._end(at, SWITCHOVER)
        elif name in ("migrate_set_state", "MIGRATION"):
            self._state(at, str(moment.args.get("new_state") or moment.args.get("status", "")))
        if not self.ended:
            self._turn(at)

    def told(self) -> Story:
        """The story so far."""
        if self._waiting is None:
            note = "the source's logs do not tell of a migration that began"
            return Story(0, 0, "", None, self._limit_ms, None, [], [], 0, [], [], [], [note])
        end = self._end_us
        if end is None:
            end = self._last_us
            if self._attempt is not None:
                end = max(end, round(self._attempt.ended * 1e6))
        left = self._remaining.left
        return Story(
            begin_us=self._begin_us,
            end_us=end,
            ended=self.ended,
            pending=self._pending,
            limit_ms=self._limit_ms,
            mechanism=self._acks.kind,
            intervals=self._waiting.end(end),
            passes=self._passes.end(end, left, self._bandwidth),
            pass_count=self._passes.count,
            bandwidths=self._bandwidths,
            devices=self._remaining.devices(),
            acks=self._acks.all,
            notes=self._notes(self._waiting),
        )

    @property
    def _bandwidth(self) -> Bandwidth | None:
        return self._bandwidths[-1] if self._bandwidths else None

    def _begins(self, moment: Moment) -> bool:
        """Whether this is `migrate`, or, without a transcript, the state that follows."""
        asked = moment.name == "migrate" and not moment.text.startswith("->")
        state = moment.name in ("migrate_set_state", "MIGRATION") and moment.text.endswith("setup")
        if asked or state:
            self._begin_us = moment.at_us
            self._waiting = Waiting(moment.at_us, self._remaining.left)
        return asked or state

    def _read(self, moment: Moment) -> None:
        self._passes.read()
        sizes = self._remaining.left.devices.get(moment.device)
        if moment.witness is Witness.CALLS and sizes is not None and not sizes.initial:
            self._acks.drained(moment.device, moment.at_us + (moment.us or 0))

    def _set(self, moment: Moment) -> None:
        given = dict(_NUMBER.findall(moment.text))
        self._limit_ms = int(given.get(_LIMIT, self._limit_ms))
        self._max_bandwidth = int(given.get(_MAX, self._max_bandwidth))

    def _reckoned(self, moment: Moment) -> None:
        """QEMU has `switchover_bw` in bytes a millisecond; `bandwidth` has other units in 11.1.

        It is 0 unless avail-switchover-bandwidth is set: what was measured is used then.
        """
        transferred = _number(moment, "transferred")
        spent, fits = _number(moment, "time_spent"), _number(moment, "max_size")
        if transferred is None or spent is None or fits is None:
            return
        measured = transferred * 1000 // max(1, spent)
        switchover = _number(moment, "switchover_bw")
        used = switchover * 1000 if switchover else measured
        self._bandwidths.append(Bandwidth(moment.at_us, measured, used, fits))
        thinned(self._bandwidths, lambda _, second: second)

    def _state(self, at: int, state: str) -> None:
        self._active = self._active or state == "active"
        if state in _DECIDED and self._paused_us is not None:
            self._end(self._paused_us, SWITCHOVER)  # it was QEMU that stopped the guest
        elif state not in _GOING_ON:
            self._end(at, SWITCHOVER if state in _DECIDED else state)

    def _end(self, at: int, how: str) -> None:
        self.ended = how
        self._end_us = at

    def _turn(self, at: int) -> None:
        if self._waiting is not None:
            why, devices = self._why()
            fits = None if self._bandwidth is None else self._bandwidth.fits
            self._waiting.turn(at, why, devices, self._remaining.left, fits)

    def _why(self) -> tuple[Why, tuple[str, ...]]:
        """The first reason that holds."""
        left = self._remaining.left
        if not self._active:
            return Why.SETUP, ()
        if self._paused_us is not None:
            return Why.PAUSED, ()
        if self._bandwidth is None:
            return Why.BANDWIDTH, ()
        if left.total > self._bandwidth.fits:
            return Why.BYTES, ()
        if left.ram is None and not self._remaining.had_turn and self._passes.last < 2:
            return Why.RAM, ()
        if missing := self._acks.missing():
            return Why.ACK, missing
        return Why.UNKNOWN, ()

    def _notes(self, waiting: Waiting) -> list[str]:
        notes = []
        if not self.ended:
            notes.append("the logs end before switchover was decided")
        if self.ended == SWITCHOVER and self._attempt is not None and self._attempt.error:
            notes.append(f"after the decision: {self._attempt.error}")
        if self._remaining.left.ram is None:
            notes.append(
                "RAM's rest is not known: qemu_savevm_query_pending (11.1), migrate_pending_* "
                "(10.0) were not traced"
            )
        if not self._bandwidths:
            notes.append("QEMU's bandwidth is not known: it did not come to migrate_transferred")
        if sum(b.measured >= _NEARLY * self._max_bandwidth > 0 for b in self._bandwidths) > 1:
            notes.append(
                f"at times QEMU sent as fast as max-bandwidth allows: {size(self._max_bandwidth)}/s"
            )
        if self._acks.kind is None:
            notes.append("which acks were in use is not known: none was seen asked for or given")
        if waiting.merged or self._passes.merged:
            notes.append("there were very many intervals or passes: neighbours were put together")
        return notes


def _number(moment: Moment, name: str) -> int | None:
    value = moment.args.get(name)
    return value if isinstance(value, int) else None
