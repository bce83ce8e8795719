"""Where the downtime went: its critical path, and who was busy meanwhile."""

import msgspec

from qmptests.downtime import activities, busy, critical, ends, offers
from qmptests.downtime.busy import Busy
from qmptests.downtime.critical import UNATTRIBUTED, Segment
from qmptests.downtime.sources import DESTINATION, SOURCE, Evidence


class Share(msgspec.Struct, frozen=True):
    """All segments of the path with the same side, step, owner and doing."""

    side: str
    step: str
    owner: str
    what: str
    us: int


class Breakdown(msgspec.Struct, frozen=True):
    """From the VM's stop at the source to its running at the destination.

    `begin_us`, `end_us`: on the source's clock. `path`: disjoint, without a gap. `busy` may
    overlap. `notes`: what could not be told, in words.
    """

    begin_us: int
    end_us: int
    path: list[Segment]
    busy: list[Busy]
    notes: list[str]

    @property
    def us(self) -> int:
        """The downtime."""
        return self.end_us - self.begin_us

    @property
    def unattributed_us(self) -> int:
        """What belongs to nobody."""
        return sum(segment.us for segment in self.path if segment.owner == UNATTRIBUTED)

    def shares(self) -> list[Share]:
        """The path's parts, in the order in which each first came; their sum is the downtime."""
        found: dict[tuple[str, str, str, str], int] = {}
        for s in self.path:
            key = s.side, s.step, s.owner, s.what
            found[key] = found.get(key, 0) + s.us
        return [Share(*key, us) for key, us in found.items()]


def of(evidence: Evidence, offset_us: int = 0) -> Breakdown | None:
    """The breakdown of an attempt; None if the guest did not come to run at the destination.

    `offset_us`: how far the destination's clock is ahead of the source's.
    """
    if DESTINATION not in evidence.sides or SOURCE not in evidence.sides:
        return None
    between = ends.find(evidence, offset_us)
    if between.begin is None or between.end is None or between.end <= between.begin:
        return None
    source = activities.of(evidence, SOURCE)
    destination = activities.of(evidence, DESTINATION, offset_us)
    return Breakdown(
        between.begin,
        between.end,
        critical.path(source, destination, between.begin, between.end),
        [*busy.of(SOURCE, source), *busy.of(DESTINATION, destination)],
        offers.lacking(evidence, {SOURCE: source, DESTINATION: destination}),
    )
