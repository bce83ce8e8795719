"""When the downtime began and ended, on the source's clock, and what lies between."""

import msgspec

from qmptests.downtime.instants import Side
from qmptests.downtime.sources import DESTINATION, SOURCE, Evidence

_TRACED = ("vmstate_downtime_checkpoint", "migrate_set_state", "migration_thread_low_pending")


class Ends(msgspec.Struct):
    """Microseconds on the source's clock; None if that did not happen, or is not told.

    `begin`, `end`: the guest is stopped, the guest runs. Without checkpoints it may have stopped
    from `earliest` on, and have begun to run up to `latest`. `qemu_end`: where QEMU's own count
    ends. `loaded`, `started`: the destination has read the stream, has started its VM. `held`: the
    source waits in pre-switchover. `problems`: what could not be told, and why.
    """

    begin: int | None = None
    earliest: int | None = None
    end: int | None = None
    latest: int | None = None
    qemu_end: int | None = None
    loaded: int | None = None
    started: int | None = None
    held: tuple[int, int] | None = None
    problems: list[str] = msgspec.field(default_factory=list)

    @property
    def us(self) -> int | None:
        """The downtime."""
        return None if self.begin is None or self.end is None else self.end - self.begin

    @property
    def vague_us(self) -> int:
        """How much longer it may have been."""
        before = after = 0
        if self.begin is not None and self.earliest is not None:
            before = self.begin - self.earliest
        if self.end is not None and self.latest is not None:
            after = self.latest - self.end
        return before + after


def find(evidence: Evidence, offset_us: int) -> Ends:
    """Those of an attempt; `offset_us` is what the destination's clock is ahead."""
    source = Side(evidence, SOURCE, _TRACED)
    destination = Side(evidence, DESTINATION, _TRACED, offset_us)
    ends = Ends(qemu_end=source.checkpoint("src-downtime-end") or source.state("completed"))
    if source.state("postcopy-active") is not None:
        ends.problems.append("postcopy: when the guest ran again is not measured")
        return ends
    if source.name:
        _begin(ends, source)
    if destination.name:
        _end(ends, destination)
    held, went = source.state("pre-switchover"), source.state("device")
    if held is not None and went is not None and held < went:
        ends.held = held, went
    return ends


def _begin(ends: Ends, source: Side) -> None:
    checkpoint = begin = source.checkpoint("src-downtime-start")
    decided = checkpoint or source.last("migration_thread_low_pending")
    if decided is not None and _stood_still(source, decided):
        ends.problems.append(
            "the guest stood still before it was to be migrated: it has no downtime by that"
        )
        return
    if checkpoint is None:
        # QEMU tells of STOP when its vCPUs and devices have stopped.
        stops = source.times("STOP")
        begin = max((at for at in stops if at <= (ends.qemu_end or at)), default=None)
        ends.earliest = decided
        ends.problems.append(f"{source.name}: no checkpoints: it stopped at STOP, or before")
    if begin is None:
        ends.problems.append(f"{source.name}: its logs don't tell when the guest was stopped")
    ends.begin = begin


def _stood_still(source: Side, at: int) -> bool:
    """Whether a command had stopped the VM before."""

    def latest(name: str) -> int:
        return max((t for t in source.times(name, earlier=True) if t < at), default=0)

    return latest("STOP") > latest("RESUME")


def _end(ends: Ends, destination: Side) -> None:
    ends.loaded = destination.checkpoint("dst-precopy-loadvm-completed")
    ends.started = destination.checkpoint("dst-precopy-bh-vm-started")
    checkpoint = ends.started is not None
    if not checkpoint:
        ends.started = destination.state("completed")
        ends.problems.append(
            f"{destination.name}: no checkpoints: it runs from RESUME on, or later"
        )
    resumed = destination.first("RESUME")
    if resumed is None:
        if destination.has_qmp:
            ends.problems.append(f"{destination.name}: the guest did not run there (no RESUME)")
        else:
            ends.end = ends.started
    elif checkpoint and ends.started is not None:
        # RESUME comes before the vCPUs run; but at `cont` this checkpoint has long been passed.
        ends.end = max(ends.started, resumed)
    else:
        ends.end = resumed
        if ends.started is not None and resumed <= ends.started:
            ends.latest, ends.started = ends.started, resumed
