"""How far the destination's clock is ahead of the source's, by what the logs themselves tell.

What one side says the other hears later, never earlier. So each such pair bounds the offset from
one side, and pairs in both directions from both, as NTP does with its packets. Both sides' logs
have the wall clock (gettimeofday) of their host: on one host the offset is 0, unless the bounds
exclude that.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from qmptests.downtime.instants import Side
from qmptests.downtime.sources import DESTINATION, SOURCE, Evidence

_TRACED = (
    "loadvm_process_command",
    "migrate_send_rp_message",
    "migrate_set_state",
    "savevm_send_switchover_start",
    "source_return_path_thread_switchover_acked",
    "vmstate_downtime_checkpoint",
    "vmstate_downtime_load",
    "vmstate_downtime_save",
)
#: Messages of the return path (QEMU's migration/migration.h).
_SHUT = "1:"
_SWITCHOVER_ACK = "7:"


class Bound(NamedTuple):
    """The offset is at least, or at most, `us`: `pair` says who said and who heard."""

    us: int
    pair: str


class Offset(msgspec.Struct, frozen=True):
    """The destination's clock less the source's, in microseconds.

    `uncertainty_us`: the offset is right to so much; None if that can't be told. `low_us`,
    `high_us`: what the logs prove, None if they prove nothing in that direction. `how`: which
    pairs, in words. `problems`: what is wrong with the clocks, or could not be told.
    """

    destination_us: int
    uncertainty_us: int | None
    low_us: int | None
    high_us: int | None
    how: str
    problems: list[str]


def measure(evidence: Evidence) -> Offset:
    """The offset of an attempt's destination. Both sides are on one host so far."""
    source = Side(evidence, SOURCE, _TRACED)
    destination = Side(evidence, DESTINATION, _TRACED)
    return combine(
        list(_source_first(source, destination)), list(_destination_first(source, destination))
    )


def combine(
    at_most: Sequence[Bound], at_least: Sequence[Bound], *, one_host: bool = True
) -> Offset:
    """The offset that all bounds allow; 0 if they allow that and both sides have one clock."""
    high, low = min(at_most, default=None), max(at_least, default=None)
    low_us, high_us = low and low.us, high and high.us
    problems = []
    if low is None:
        problems.append(
            "clocks: no log shows the source to react on the destination: how far the "
            "destination's clock could be behind is not known"
        )
    if high is None:
        problems.append(
            "clocks: no log shows the destination to react on the source: how far the "
            "destination's clock could be ahead is not known"
        )
    how = "; ".join(bound.pair for bound in (high, low) if bound is not None)

    def found(us: int, uncertainty_us: int | None, how: str) -> Offset:
        return Offset(us, uncertainty_us, low_us, high_us, how, problems)

    if low is not None and high is not None and low.us > high.us:
        problems.append(
            f"clocks: a clock was set during the migration: the logs contradict each other by "
            f"{duration(low.us - high.us)} ({how})"
        )
        return found(0 if one_host else (low.us + high.us) // 2, None, how)
    least = low is None or low.us <= 0
    most = high is None or high.us >= 0
    if one_host and least and most:
        return found(0, 0, f"one host; {how}" if how else "one host, nothing to check it by")
    if low is None or high is None:
        bound = low or high
        if bound is None:
            return found(0, None, "nothing to tell it by")
        problems.append(
            f"clocks: the destination's clock is at least {duration(bound.us)} "
            f"{_ahead(bound.us)} ({bound.pair})"
        )
        return found(bound.us, None, how)
    middle = (low.us + high.us) // 2
    half = high.us - middle
    if one_host:
        problems.append(
            f"clocks: the destination's clock is {duration(middle)} +- {duration(half)} "
            f"{_ahead(middle)}, on the same host: it was set, or the logs are of different runs"
        )
    return found(middle, half, how)


def duration(us: int) -> str:
    """Its size in words: in s from 1 s on, in ms below."""
    us = abs(us)
    return f"{us / 1e6:.3f} s" if us >= 1_000_000 else f"{us / 1e3:.1f} ms"


def _ahead(us: int) -> str:
    return "ahead of the source's" if us > 0 else "behind the source's"


def _source_first(source: Side, destination: Side) -> Iterator[Bound]:
    """What the source did, and the destination noticed."""

    def pair(said: int | None, heard: int | None, words: str) -> Iterator[Bound]:
        if said is not None and heard is not None:
            yield Bound(heard - said, words)

    yield from pair(
        source.last("savevm_send_switchover_start"),
        destination.last("loadvm_process_command", "com=SWITCHOVER_START"),
        "source's SWITCHOVER_START until it arrives",
    )
    saved = dict(_sections(source, "vmstate_downtime_save", begin=True))
    for key, at in _sections(destination, "vmstate_downtime_load", begin=False):
        yield from pair(saved.get(key), at, f"source's save of {key} until its load")
    # The connection is made between these two.
    yield from pair(
        source.first("MIGRATION", "status=setup"),
        destination.first("migrate_set_state", "new state active"),
        "source's setup until the destination is active",
    )
    completed = source.first("MIGRATION", "status=completed")
    stops = [at for at in source.times("STOP") if completed is None or at <= completed]
    if completed is not None and stops:
        yield from pair(max(stops), destination.first("RESUME"), "source's STOP until RESUME")


def _destination_first(source: Side, destination: Side) -> Iterator[Bound]:
    """What the destination did, and the source noticed."""

    def pairs(said: Iterable[int], heard: Iterable[int], words: str) -> Iterator[Bound]:
        for first, second in zip(said, heard, strict=False):
            yield Bound(first - second, words)

    yield from pairs(
        destination.times("migrate_send_rp_message", _SWITCHOVER_ACK),
        source.times("source_return_path_thread_switchover_acked"),
        "destination's switchover ack until it is heard",
    )
    ended = source.times("vmstate_downtime_checkpoint", "src-downtime-end")[-1:]
    yield from pairs(
        destination.times("migrate_send_rp_message", _SHUT)[-1:],
        ended or source.times("migrate_set_state", "new state completed")[-1:],
        "destination's SHUT until the source ends",
    )
    # `migrate` is asked for when `migrate-incoming` has been answered.
    yield from pairs(
        destination.times("MIGRATION", "status=setup")[:1],
        source.times("MIGRATION", "status=setup")[:1],
        "destination's setup until the source's",
    )


def _sections(side: Side, name: str, *, begin: bool) -> Iterator[tuple[str, int]]:
    """When the work on each section began, or ended: QEMU logs it when it has ended."""
    for moment in side.moments(name):
        args = moment.args
        key = f"{args.get('type')} {args.get('idstr')} {args.get('instance_id')}"
        yield key, moment.at_us - (moment.number("downtime") if begin else 0)
