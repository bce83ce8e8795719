"""What a migration's evidence says of acks. Nothing here looks at a version or a machine's name."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qmptests.downtime import acks, precopy, sources
from qmptests.suites.vfio import asked
from qmptests.vfio import abi

if TYPE_CHECKING:
    from qmptests.downtime.precopy_data import Story
    from qmptests.outcome import Outcome
    from qmptests.trace import Event, TraceLog
    from qmptests.vfio.calls_read import Call

NEW, LEGACY = acks.NEW, acks.LEGACY
RP_SWITCHOVER_ACK = acks.RP_SWITCHOVER_ACK
#: VFIO_PRECOPY_INFO_REINIT (linux/vfio.h), a flag of VFIO_MIG_GET_PRECOPY_INFO.
REINIT = int(abi.PrecopyInfoFlag.REINIT)

ACKED = "source_return_path_thread_switchover_acked"
APPROVED = "loadvm_approve_switchover"
APPROVED_LEGACY = "loadvm_approve_switchover_legacy"
ASKED_AGAIN = "vfio_query_precopy_size_request_switchover_ack"
DECIDED = "migration_thread_low_pending"
SENT = "vfio_send_init_data_flag"


def mechanism(outcome: "Outcome") -> str | None:
    """`NEW` or `LEGACY`, by what was traced; "" if it is off, None if that can't be told."""
    return acks.mechanism(sources.open(outcome.folder))


def story(outcome: "Outcome") -> "Story":
    """What happened in precopy: the acks by device, REINITs, passes."""
    return precopy.story(sources.open(outcome.folder))


def on_the_wire(outcome: "Outcome") -> int:
    """Acks that the destination put on the return path: the same text in all versions."""
    trace = outcome.destination.trace
    return trace.count("migrate_send_rp_message", type=RP_SWITCHOVER_ACK)


def arrived(outcome: "Outcome") -> int:
    """Acks that the source took from the return path."""
    return outcome.source.trace.count(ACKED)


def approvals(outcome: "Outcome") -> "list[Event]":
    """Each device's approval at the destination, in order, whatever the mechanism calls it."""
    trace = outcome.destination.trace
    names = [name for name in (APPROVED, APPROVED_LEGACY) if name in trace.enabled]
    return list(trace.select(names))


def decisions(outcome: "Outcome") -> int:
    """How often the source found that it may switch over."""
    return outcome.source.trace.count(DECIDED)


def reinits(outcome: "Outcome", device: str = "vf0") -> "list[Call]":
    """The answers of a device in which it said REINIT, by its own log."""
    return [call for call in sizes(outcome, device) if call.answer["flags"] & REINIT]


def opted_in(trace: "TraceLog") -> bool:
    """Whether QEMU told some device, when it started, that it understands REINIT (11.1)."""
    name = "vfio_migration_init"
    return name in trace.enabled and bool(trace.count(name, precopy_info_v2_used=1))


def sizes(outcome: "Outcome", device: str = "vf0") -> "Iterator[Call]":
    """Each time that QEMU asked a device what it has left in precopy."""
    return (c for c in asked.calls(outcome).calls("precopy-info", device) if "flags" in c.answer)
