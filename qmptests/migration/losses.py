"""What the evidence of a migration lacks, as far as that can be known. Pure."""

from collections.abc import Iterable, Iterator

from qmptests.outcome.record import SideRecord

#: In whose words a disk that is full is told (strerror of ENOSPC and EDQUOT).
_FULL = ("No space left", "quota exceeded")
#: What QEMU writes itself, and says nothing if it can't.
_OF_QEMU = ("trace.log", "stderr.log")


def of(sides: Iterable[SideRecord], lost: Iterable[str]) -> Iterator[str]:
    """`FILE: WHAT` for what QEMU wrote itself; `lost`: the same for what we wrote.

    QEMU tells nobody of a line that it could not write: a disk that was full for us may have been
    so for it. The states of its migration are announced by QMP, too: its log must have each.
    """
    was_full = any(word in problem for problem in lost for word in _FULL)
    for side in sides:
        yield from _of_trace(side)
        for file in _OF_QEMU if was_full else ():
            yield f"{side.name}.{file}: may lack lines, the disk being full: QEMU does not say"


def _of_trace(side: SideRecord) -> Iterator[str]:
    announced = sum(event.count for event in side.events if event.name == "MIGRATION")
    noted = side.trace.volume.events.get("migrate_set_state", 0)
    # At a destination QEMU 7.2 announces "setup" without having changed its state.
    untraced = 0 if side.name == "source" else 1
    if "migrate_set_state" in side.trace.enabled and noted < announced - untraced:
        yield (
            f"{side.name}.trace.log: lost lines: QMP announced {announced} states of the "
            f"migration, it has {noted}"
        )
    if side.trace.volume.truncated:
        yield f"{side.name}.trace.log: its last line is cut off"
