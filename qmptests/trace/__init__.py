"""Trace logs of any QEMU version as one stream of typed events: counting, matching, diff."""

from qmptests.trace.events import LOW_VOLUME, LOW_VOLUME_VFIO, flooding, select
from qmptests.trace.follow import TraceFollower, TraceTimeout
from qmptests.trace.log import NotConfirmed, NoWitness, TraceLog
from qmptests.trace.parser import Entry, Event, Message
from qmptests.trace.sequence import SequenceMismatch, match_sequence
from qmptests.trace.volume import Volume, is_perturbing

__all__ = [
    "LOW_VOLUME",
    "LOW_VOLUME_VFIO",
    "Entry",
    "Event",
    "Message",
    "NoWitness",
    "NotConfirmed",
    "SequenceMismatch",
    "TraceFollower",
    "TraceLog",
    "TraceTimeout",
    "Volume",
    "flooding",
    "is_perturbing",
    "match_sequence",
    "select",
]
