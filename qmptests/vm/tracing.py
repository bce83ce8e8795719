"""Which trace events a VM switches on: patterns, resolved against what its build has."""

from dataclasses import dataclass

from qmptests.builds import Build
from qmptests.trace import select


@dataclass(frozen=True, slots=True)
class Selection:
    """Patterns resolved for one build.

    `matched` go to the command line. `unmatched` mean nothing there, and QEMU would warn of them
    or pass over them in silence. `enabled` are the events that `matched` mean, by name.
    """

    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    enabled: tuple[str, ...]


_known: dict[tuple[str, tuple[str, ...]], Selection] = {}


def resolve(build: Build, patterns: tuple[str, ...]) -> Selection:
    """Remembered by the build's content: there are thousands of names to match."""
    key = (build.digest, patterns)
    if key not in _known:
        events = build.facts.trace_events
        matched = tuple(p for p in patterns if select([p], events))
        unmatched = tuple(p for p in patterns if p not in matched)
        _known[key] = Selection(matched, unmatched, tuple(select(matched, events)))
    return _known[key]
