"""Three downtimes of one migration, held against each other: QEMU's, ours and the guest's.

- QEMU's: `downtime` of query-migrate, from before the source stops its VM until the source has
  ended (checkpoints src-downtime-start and src-downtime-end since 8.2). With `return-path` that is
  when the destination's SHUT has come, which it sends when its VM was started; without, when all
  has been sent, whatever the destination does then.
- ours: from src-downtime-start until the guest runs at the destination: dst-precopy-bh-vm-started,
  or `cont` if it was started with `-S`. 7.2 has no checkpoints: there from STOP to RESUME.
- the guest's: between its last report on the source and its first on the destination, less the time
  that it needs for a report.
"""

from collections.abc import Iterator

import msgspec

from qmptests.downtime import clocks, ends, guest_gap
from qmptests.downtime.clocks import Offset
from qmptests.downtime.ends import Ends
from qmptests.downtime.sources import Evidence

#: Figures that are closer than this, or than this part of the downtime, agree.
TOLERANCE_US = 3000
TOLERANCE = 0.02
#: QEMU takes the difference of two readings in whole milliseconds.
QEMU_UNCERTAINTY_US = 1000


class Interval(msgspec.Struct, frozen=True):
    """A part of the downtime, in microseconds, by its name, and why it is there."""

    name: str
    us: int
    why: str


class Figure(msgspec.Struct, frozen=True):
    """A downtime in microseconds; None if it could not be told."""

    us: int | None = None
    uncertainty_us: int | None = None


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """The downtime in microseconds by each measure; None if it could not be told.

    The uncertainties are None if they can't be told. `agree`: whether the others are ours; None if
    there is nothing to compare. `differences`: what QEMU leaves out of its figure or, below zero,
    counts beyond the downtime; "guest" is by how much the guest's figure is longer than ours.
    `within`: waiting that all of them contain. `problems`: what could not be told, and why.
    """

    qemu_us: int | None
    qemu_uncertainty_us: int | None
    ours_us: int | None
    ours_uncertainty_us: int | None
    guest_us: int | None
    guest_uncertainty_us: int | None
    agree: bool | None
    differences: list[Interval]
    within: list[Interval]
    problems: list[str]


def measure(evidence: Evidence, offset: Offset | None = None) -> Measures:
    """The downtimes of an attempt. The `offset` of its clocks is measured if it is not given."""
    offset = clocks.measure(evidence) if offset is None else offset
    found = ends.find(evidence, offset.destination_us)
    gap = guest_gap.measure(evidence, offset)
    qemu, ours = Figure(), Figure(found.us)
    problems = [*found.problems, gap.problem] if gap.problem else found.problems
    if evidence.attempt is not None and evidence.attempt.times.downtime_ms is not None:
        qemu = Figure(evidence.attempt.times.downtime_ms * 1000, QEMU_UNCERTAINTY_US)
    else:
        problems.append("QEMU told no downtime")
    if ours.us is not None and offset.uncertainty_us is not None:
        ours = Figure(ours.us, found.vague_us + offset.uncertainty_us)
    outcome = evidence.outcome
    return_path = outcome is not None and outcome.plan.capabilities.get("return-path", False)
    return compare(
        qemu,
        ours,
        Figure(gap.us, gap.uncertainty_us),
        outside=list(_outside(found, return_path)),
        within=list(_within(found)),
        problems=problems,
    )


def compare(
    qemu: Figure,
    ours: Figure,
    guest: Figure,
    *,
    outside: list[Interval],
    within: list[Interval],
    problems: list[str],
) -> Measures:
    """Hold the figures against each other.

    `outside`: what is known that QEMU leaves out, or counts beyond; if there is more, that is
    named too.
    """
    agree = None
    differences = [interval for interval in outside if interval.us]
    if ours.us is not None:
        allowed = max(TOLERANCE_US, round(TOLERANCE * ours.us)) + (ours.uncertainty_us or 0)
        if qemu.us is not None:
            agree = abs(ours.us - qemu.us) <= allowed
            rest = ours.us - qemu.us - sum(interval.us for interval in outside)
            if abs(rest) > allowed:
                why = "no event tells: a busy host, or a clock that was set"
                differences.append(Interval("unexplained", rest, why))
        if guest.us is not None:
            longer = guest.us - ours.us
            near = abs(longer) <= allowed + (guest.uncertainty_us or 0)
            agree = near and agree is not False
            if not near:
                why = "by its reports, which may have been read late"
                differences.append(Interval("guest", longer, why))
    return Measures(
        qemu_us=qemu.us,
        qemu_uncertainty_us=qemu.uncertainty_us,
        ours_us=ours.us,
        ours_uncertainty_us=ours.uncertainty_us,
        guest_us=guest.us,
        guest_uncertainty_us=guest.uncertainty_us,
        agree=agree,
        differences=differences,
        within=within,
        problems=problems,
    )


def _outside(found: Ends, return_path: bool) -> Iterator[Interval]:
    """What lies between the end of QEMU's count and the guest's running."""
    at, end = found.qemu_end, found.end
    if at is None or end is None or found.begin is None:
        return
    if at >= end:
        if return_path:
            yield Interval("return path", end - at, "until the source hears that it runs there")
        else:
            yield Interval("source's end", end - at, "until the source has ended")
        return
    start = "start" if found.loaded else "load and start"
    for name, until, why in (
        ("load", found.loaded, "the source has sent everything, the destination loads"),
        (start, found.started, "the destination starts its VM"),
        ("cont", end, "the destination was started with -S: it waits for `cont`"),
    ):
        if until is not None and at < until:
            yield Interval(name, until - at, why)
            at = until


def _within(found: Ends) -> Iterator[Interval]:
    if found.held is not None:
        began, ended = found.held
        yield Interval("pre-switchover", ended - began, "the source waits for `migrate-continue`")
