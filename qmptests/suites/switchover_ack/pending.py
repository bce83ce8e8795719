"""What QEMU reckons is left to send, and acts of observers on it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from qmptests.migration import Observer, Phase
from qmptests.suites.switchover_ack import observed

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.migration import Run
    from qmptests.vm import VM

#: One question to RAM and devices together, which the series "VFIO fixes" brought (11.1).
QUERY = "qemu_savevm_query_pending"
#: The threshold, and the bandwidth that it comes from, each 100 ms. Before, the threshold is 0.
THRESHOLD = "migrate_transferred"
ANNOUNCED = "MIGRATION_PASS"
#: A first read that outlasts that: whatever QEMU decides after it, it has a threshold.
OUTLASTS_THE_FIRST_WINDOW = "read+delay=120ms+in=pre-copy"
DEADLINE_S = 20
#: The longest downtime that can be allowed, milliseconds.
ENOUGH = 2_000_000


def has_the_fixes(build: "Build") -> bool:
    """Whether a build has Peter Xu's series "VFIO fixes", told by what it can trace."""
    return QUERY in build.facts.trace_events


def announced(source: "VM") -> list[int]:
    """The passes that QEMU has announced. Of very many only the first and the last are kept."""
    return [event.data["pass"] for event in source.monitor.events if event.name == ANNOUNCED]


async def passes(source: "VM", count: int) -> int:
    """Wait for so many more passes, which QEMU counts as it asks for exact sizes; the last one."""
    number = max(announced(source), default=0) + count
    what = f"pass {number}"
    event = await source.monitor.expect(
        ANNOUNCED, lambda data: data["pass"] >= number, what=what, timeout=DEADLINE_S
    )
    return int(event.data["pass"])


async def keeps_waiting(source: "VM") -> dict[str, Any]:
    """Wait until it had a threshold and asked for sizes, and did not switch over; query-migrate."""
    await source.trace.wait_for(THRESHOLD, timeout=DEADLINE_S, what="a threshold")
    await passes(source, 20)
    info = await source.execute("query-migrate")
    assert info["status"] == "active", info
    assert not source.trace.log.count(observed.DECIDED), "it switched over"
    return dict(info)


async def allow(run: "Run", limit: int = ENOUGH) -> None:
    """Let it switch over, whatever is left."""
    await run.source.execute("migrate-set-parameters", {"downtime-limit": limit})


class WhileActive(Observer):
    """Runs something in precopy. What it raises ends the migration's test."""

    def __init__(self, act: "Callable[[Run], Awaitable[None]]") -> None:
        self.act = act
        self.count = 0

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Once, in the first attempt."""
        if phase is Phase.ACTIVE and not self.count:
            self.count += 1
            await self.act(run)
