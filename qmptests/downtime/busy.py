"""How long each device and section was at work while the guest stood still, on each side.

This is not the critical path: what is busy may overlap with anything else, on its own side and on
the other, so these times are never summed up.
"""

import msgspec

from qmptests.downtime.critical import CONFIG, READ, WRITE
from qmptests.downtime.sources import SOURCE
from qmptests.downtime.work import Activity, Step, Work


class Busy(msgspec.Struct, frozen=True):
    """One owner's work in one step of one side, in microseconds.

    Of a save, `calls_us` is what the device took to be read; of a load, what it took to be written
    to, the rest being spent on waiting for the stream and moving data. None: nobody watched.
    """

    side: str
    step: str
    owner: str
    us: int
    calls_us: int | None = None


def of(side: str, work: Work) -> list[Busy]:
    """In the order in which they began; a device's thread counts as its save or load."""
    found: dict[tuple[str, str], int] = {}
    calls: dict[tuple[str, str], int] = {}
    kind = READ if side == SOURCE else WRITE
    threads = list(work.lanes.values())
    configs = work.config if threads else []
    for activity in sorted((*work.main, *threads), key=lambda a: a.begin):
        key = activity.step, activity.owner
        if activity.step in (Step.SAVE, Step.LOAD):
            took = _calls(work, activity, kind)
            if took is not None:
                calls[key] = calls.get(key, 0) + took
        found[key] = found.get(key, 0) + activity.end - activity.begin
    loaded = [Busy(side, CONFIG, c.owner, c.end - c.begin) for c in configs]
    return [
        Busy(side, step, owner, us, calls.get((step, owner))) for (step, owner), us in found.items()
    ] + loaded


def _calls(work: Work, activity: Activity, kind: str) -> int | None:
    """What the device's own calls took of it; None if none is known."""
    known = [c for c in work.calls.get(activity.owner, []) if c.section == kind]
    if not known:
        return None
    parts = (min(c.end, activity.end) - max(c.begin, activity.begin) for c in known)
    return sum(part for part in parts if part > 0)
