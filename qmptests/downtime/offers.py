"""What QEMU and the devices tell about downtime, and what an outcome's evidence lacks of it.

    QEMU      checkpoints, a time for each section      states of VFIO devices    threads (multifd)
    7.2       no                                        no                        no
    10.0      yes                                       yes                       yes
    11.1      yes, and dirty pages are looked for       yes                       yes
              before RAM is saved, not within

With multifd the time of a VFIO section is about zero: its threads' events tell instead.
"""

import fnmatch
from collections.abc import Mapping

from qmptests.downtime.critical import READ, WRITE
from qmptests.downtime.sources import DESTINATION, SOURCE, Evidence
from qmptests.downtime.work import Step, Work

#: What is told by which events, of a VM with VFIO devices ("device") and of any ("").
TOLD_BY = (
    ("", "the steps of downtime", "vmstate_downtime_checkpoint"),
    ("", "the time of each section", "vmstate_downtime_*e"),
    ("device", "what a device does when the VM stops and starts", "vfio_migration_set_state"),
)


def lacking(evidence: Evidence, works: Mapping[str, Work]) -> list[str]:
    """What the breakdown can't say of these sides, and why: a line each."""
    notes = []
    devices = any(work.calls or work.lanes for work in works.values())
    record = evidence.outcome
    for role, name in evidence.sides.items():
        sides = [] if record is None else [record.source, *record.destinations]
        side = next((s for s in sides if s is not None and s.name == name), None)
        if side is None:
            continue
        for needs, what, pattern in TOLD_BY:
            if needs and not devices:
                continue
            if not fnmatch.filter(side.trace.enabled, pattern):
                notes.append(
                    f"{role}: {side.build.name} does not tell {what} (no {pattern} in its trace)"
                )
    loads = works[DESTINATION].main + list(works[DESTINATION].lanes.values())
    loading = {a.owner for a in loads if a.step is Step.LOAD}
    sent = _called(works[SOURCE], READ)
    watched = _called(works[DESTINATION], WRITE)
    if unwatched := sorted(sent & loading - watched):
        notes.append(
            f"destination: nobody watched the writes to {', '.join(unwatched)}: waiting for the "
            "stream and writing are not told apart (watch_writes=on)"
        )
    return notes


def _called(work: Work, kind: str) -> set[str]:
    """The devices that have calls of this kind."""
    return {
        device
        for device, calls in work.calls.items()
        if any(call.section == kind for call in calls)
    }
