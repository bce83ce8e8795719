"""What one migration of the bench showed: figures out of its evidence, none of them put in."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from qmptests.bench.setting import BUSY_NAME
from qmptests.downtime import analysis, sources
from qmptests.downtime.analysis import Analysis
from qmptests.downtime.critical import READ, SEND
from qmptests.downtime.precopy_data import Why
from qmptests.downtime.work import Step
from qmptests.outcome import Outcome
from qmptests.report import comparison

#: A device's work on the critical path, in the order of downtime.
PARTS = ("stop", "read", "send", "load", "start", "other")


class AckTimes(msgspec.Struct, frozen=True):
    """One ack of a device, in milliseconds from `migrate`; `took_ms`: from asked until given.

    `why`: "setup" or "reinit". None for what did not happen.
    """

    device: str
    why: str
    asked_ms: float
    took_ms: float | None


class ReinitTimes(msgspec.Struct, frozen=True):
    """One REINIT of the busy device, milliseconds from `migrate`: so many initial bytes then.

    `new_bytes`: those that were not initial before.
    """

    at_ms: float
    initial_bytes: int
    new_bytes: int


class Sample(msgspec.Struct, kw_only=True):
    """One migration. Times are milliseconds, None where it did not come to that.

    `downtime_ms`: from VM stop to VM running, by traces; `qemu_downtime_ms` is query-migrate's.
    `busy_ms`: the busy device's share of the critical path, all its arcs, reads and loads in it;
    `busy_parts_ms` divides it. `idle_ms`: the other devices' share. `waiting_for_acks_ms`: of
    precopy, while all fitted and an ack was missing. `moved_bytes`: from stop-copy to precopy by
    REINITs. `reinits`, `acks`: the last ones of very many; `reinit_count` and `ack_count` are all.
    """

    folder: str
    result: str
    error: str = ""
    mechanism: str | None = None
    qemu_downtime_ms: int | None = None
    downtime_ms: float | None = None
    busy_ms: float | None = None
    busy_parts_ms: dict[str, float] = {}
    idle_ms: float | None = None
    total_ms: int | None = None
    precopy_ms: float | None = None
    waiting_for_acks_ms: float | None = None
    read_in_precopy_bytes: int | None = None
    read_in_stop_copy_bytes: int | None = None
    moved_bytes: int = 0
    reinit_count: int = 0
    reinits: list[ReinitTimes] = []
    ack_count: int = 0
    acks: list[AckTimes] = []
    passes: int = 0

    @property
    def rest_ms(self) -> float | None:
        """All but the busy device's share."""
        if self.downtime_ms is None or self.busy_ms is None:
            return None
        return self.downtime_ms - self.busy_ms


def of(outcome: Outcome) -> Sample:
    """The figures of a migration, from its folder."""
    record = outcome.record
    made = analysis.of(sources.open(outcome.folder))
    times = record.attempts[-1].times if record.attempts else None
    sample = Sample(
        folder=outcome.folder.name,
        result=str(record.result),
        error=record.error,
        mechanism=made.precopy.mechanism,
        qemu_downtime_ms=times.downtime_ms if times else None,
        total_ms=times.total_ms if times else None,
    )
    _precopy(sample, made)
    _downtime(sample, made)
    devices = {device.name: device for device in outcome.source.record.devices}
    if BUSY_NAME in devices and sample.read_in_precopy_bytes is not None:
        sent = sum(chunk.bytes for chunk in devices[BUSY_NAME].sent)
        sample.read_in_stop_copy_bytes = sent - sample.read_in_precopy_bytes
    return sample


def _precopy(sample: Sample, made: Analysis) -> None:
    story = made.precopy
    if not story.intervals:
        return

    def ms(at: int) -> float:
        return (at - story.begin_us) / 1e3

    sample.precopy_ms = story.us / 1e3
    waiting = sum(interval.us for interval in story.intervals if interval.why is Why.ACK)
    sample.waiting_for_acks_ms = waiting / 1e3
    sample.passes = story.pass_count
    sample.ack_count = len(story.acks)
    sample.acks = [
        AckTimes(
            ack.device,
            ack.why,
            ms(ack.asked_us),
            None if ack.given_us is None else (ack.given_us - ack.asked_us) / 1e3,
        )
        for ack in story.acks
    ]
    for device in story.devices:
        if device.name == BUSY_NAME:
            sample.read_in_precopy_bytes = device.read_bytes or 0
            sample.moved_bytes = device.moved_bytes
            sample.reinit_count = device.reinit_count
            sample.reinits = [
                ReinitTimes(ms(one.at_us), one.initial, one.new) for one in device.reinits
            ]


def _downtime(sample: Sample, made: Analysis) -> None:
    if made.downtime is None:
        return
    sample.downtime_ms = made.downtime.us / 1e3
    devices = {device.name for device in made.precopy.devices}
    owners: dict[str, float] = defaultdict(float)
    parts = dict.fromkeys(PARTS, 0.0)
    for share in made.downtime.shares():
        owners[share.owner] += share.us / 1e3
        if share.owner == BUSY_NAME:
            parts[_part(share.step, share.what)] += share.us / 1e3
    sample.busy_ms = owners[BUSY_NAME]
    sample.busy_parts_ms = {part: ms for part, ms in parts.items() if ms}
    sample.idle_ms = sum(owners[name] for name in devices - {BUSY_NAME})


def _part(step: str, what: str) -> str:
    if step == Step.SAVE and what in (READ, SEND):
        return what
    return step if step in (Step.STOP, Step.LOAD, Step.START) else "other"


#: What two builds are compared by: the name in tables, and the field.
COMPARED = {
    "downtime": "downtime_ms",
    "busy": "busy_ms",
    "rest": "rest_ms",
    "total": "total_ms",
    "precopy": "precopy_ms",
    "for acks": "waiting_for_acks_ms",
}


def figures(samples: Sequence[Sample], patterns: Sequence[str] = ()) -> dict[str, list[float]]:
    """The repeats of each of `COMPARED` that matches a pattern, milliseconds."""
    return {
        name: [float(ms) for sample in samples if (ms := getattr(sample, field)) is not None]
        for name, field in COMPARED.items()
        if comparison.wanted(name, patterns)
    }


def told(sample: Sample) -> Iterator[str]:
    """One migration's REINITs and acks, a line each: when, how much, how long."""
    for one in sample.reinits:
        yield (
            f"REINIT at {one.at_ms:.0f} ms: {one.initial_bytes >> 20} MiB initial, "
            f"{one.new_bytes >> 20} MiB of it new"
        )
    for ack in sample.acks:
        took = "never given" if ack.took_ms is None else f"took {ack.took_ms:.0f} ms"
        yield f"{ack.device}: {ack.why} ack asked at {ack.asked_ms:.0f} ms, {took}"
