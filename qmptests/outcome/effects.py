"""Whether a migration capability that was on had an effect: for each, what shows it.

QEMU takes many capabilities and then does nothing with them: `postcopy-ram` alone never leads to
postcopy. Sources: QEMU's migration/*.c and migration/trace-events, qapi/migration.json.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from qmptests.outcome.record import OutcomeRecord, SideRecord

#: How often something was seen; None if nobody looked, or nothing could be seen.
Seen = int | None


class Witness(NamedTuple):
    """What shows that a capability took effect. `events`: trace events to switch on for it."""

    seen: Callable[[OutcomeRecord], Seen]
    events: tuple[str, ...] = ()


def _trace(pattern: str, side: str = "source") -> Witness:
    """Events in a side's trace log: a zero counts only if they were on, and the log has others."""

    def seen(record: OutcomeRecord) -> Seen:
        at = _side(record, side)
        if at is None or not at.trace.volume.lines or at.trace.volume.truncated:
            return None
        if not any(fnmatchcase(name, pattern) for name in at.trace.enabled):
            return None
        counts = at.trace.volume.events.items()
        return sum(number for name, number in counts if fnmatchcase(name, pattern))

    return Witness(seen, (pattern,))


def _counter(*path: str, side: str = "source") -> Witness:
    """A figure in the answer to `query-migrate` at the end; QEMU leaves out what there is not."""

    def seen(record: OutcomeRecord) -> Seen:
        at = _side(record, side)
        return _figure(at.migration, path) if at is not None and at.migration else None

    return Witness(seen)


def _field(name: str, side: str) -> Witness:
    """Whether that answer has such a field."""

    def seen(record: OutcomeRecord) -> Seen:
        at = _side(record, side)
        return int(name in at.migration) if at is not None and at.migration else None

    return Witness(seen)


def _only_with(other: Witness) -> Witness:
    """Without the other nothing can have happened; with it, that is not known."""
    return Witness(lambda record: 0 if other.seen(record) == 0 else None, other.events)


def _zero_copied(record: OutcomeRecord) -> Seen:
    """Bytes of multifd unless the kernel copied them after all, as it does on a loopback."""
    sent, copied = (
        _counter("ram", name).seen(record)
        for name in ("multifd-bytes", "dirty-sync-missed-zero-copy")
    )
    return 0 if copied else sent


def _ignored(record: OutcomeRecord) -> Seen:
    """Bytes of the VM's memory that `ram.total` leaves out."""
    total = _counter("ram", "total").seen(record)
    side = record.source
    if not total or side is None or "-m" not in side.argv:
        return None
    memory = int(side.argv[side.argv.index("-m") + 1].removesuffix("M")) << 20
    return max(0, memory - total)


def _paused(record: OutcomeRecord) -> Seen:
    return sum(phase.name == "pre-switchover" for phase in record.phases)


def _events(record: OutcomeRecord) -> Seen:
    return (
        sum(e.count for e in record.source.events if e.name == "MIGRATION") if record.source else 0
    )


_POSTCOPY = _trace("postcopy_start")

WITNESSES: Mapping[str, Witness | None] = {
    "auto-converge": _trace("migration_throttle"),
    "background-snapshot": _trace("ram_write_tracking_ramblock_start"),
    "block": _trace("migration_block_init_*"),
    "compress": _counter("compression", "pages"),
    "dirty-bitmaps": _trace("dirty_bitmap_load_complete", "destination"),
    "dirty-limit": _trace("migration_dirty_limit_guest"),
    "events": Witness(_events),
    "late-block-activate": None,
    "mapped-ram": None,
    "multifd": _counter("ram", "multifd-bytes"),
    "pause-before-switchover": Witness(_paused),
    "postcopy-blocktime": _field("postcopy-blocktime", "destination"),
    "postcopy-preempt": _trace("postcopy_preempt_thread_entry", "destination"),
    "postcopy-ram": _POSTCOPY,
    "rdma-pin-all": _trace("qemu_rdma_register_and_get_keys"),
    "release-ram": _only_with(_POSTCOPY),  # memory is released in postcopy only
    "return-path": _trace("migrate_send_rp_message", "destination"),
    "switchover-ack": _trace("source_return_path_thread_switchover_acked"),
    "validate-uuid": None,
    "x-colo": _trace("colo_vm_state_change"),
    "x-ignore-shared": Witness(_ignored),
    "xbzrle": _counter("xbzrle-cache", "pages"),
    "zero-blocks": None,
    "zero-copy-send": Witness(_zero_copied),
}
"""Capability -> its witness; None where none is known."""


#: How the names of a capability's parameters begin.
_PARAMETERS = {
    "block-incremental": "block",
    "compress-": "compress",
    "cpu-throttle-": "auto-converge",
    "decompress-threads": "compress",
    "max-cpu-throttle": "auto-converge",
    "max-postcopy-bandwidth": "postcopy-ram",
    "multifd-": "multifd",
    "vcpu-dirty-limit": "dirty-limit",
    "x-checkpoint-delay": "x-colo",
    "x-vcpu-dirty-limit-period": "dirty-limit",
    "xbzrle-cache-size": "xbzrle",
}


def capability_of(parameter: str) -> str:
    """The capability without which a parameter has no effect; "" if there is none."""
    return next((c for start, c in _PARAMETERS.items() if parameter.startswith(start)), "")


def events(capabilities: Mapping[str, bool]) -> tuple[str, ...]:
    """Patterns of the trace events that show the effects of those that are on: few lines each."""
    witnesses = (WITNESSES.get(name) for name, on in capabilities.items() if on)
    return tuple(dict.fromkeys(e for witness in witnesses if witness for e in witness.events))


def effects(record: OutcomeRecord) -> dict[str, Seen]:
    """Of each capability that was on: how often, or how much, its effect was seen.

    0: it had none. None: nobody knows, since no witness is known, or it could not be asked.
    """
    found: dict[str, Seen] = {}
    for name, on in record.plan.capabilities.items():
        if on:
            witness = WITNESSES.get(name)
            found[name] = witness.seen(record) if witness else None
    return found


def _side(record: OutcomeRecord, name: str) -> SideRecord | None:
    return record.source if name == "source" else next(iter(record.destinations[-1:]), None)


def _figure(tree: Mapping[str, Any], path: Iterable[str]) -> int:
    """0 for what is not there."""
    found: Any = tree
    for name in path:
        found = found.get(name, 0) if isinstance(found, Mapping) else 0
    return found if isinstance(found, int) else 0
