"""Proof that a source waits for an ack, and for nothing else."""

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from qmptests.suites.switchover_ack import observed, pending
from qmptests.vm.definition import Definition

if TYPE_CHECKING:
    from qmptests.migration import Run
    from qmptests.trace import Event, TraceLog

#: A guest that counts, and writes next to nothing: all that a source sends while its destination is
#: held has room in a TCP connection.
QUIET = Definition(
    machine="q35", memory="64M", guest={"kind": "dirtier", "length": "16K", "rate": "16K"}
)
#: What a source asks for exact sizes, by version.
EXACT = (pending.QUERY, "migrate_pending_exact")
TIMES = 3


async def for_an_ack(run: "Run") -> None:
    """Wait until all that is left has fitted `TIMES` times, by its trace: it doesn't switch over.

    The migration's plan has `pending.QUERY` or `migrate_pending_exact` traced.
    """
    log = run.source.trace.log
    already = fitting(log)
    try:
        async with asyncio.timeout(pending.DEADLINE_S):
            while fitting(log) < already + TIMES:
                await pending.passes(run.source, 1)
    except TimeoutError:
        pytest.fail("not reached: what is left does not fit, so nothing is proven")
    assert not log.count(observed.DECIDED), "it switched over without the ack"


def fitting(log: "TraceLog", *, until_us: float = math.inf) -> int:
    """How many exact queries found no more than the threshold that was known then."""
    name = next(name for name in EXACT if name in log.enabled)
    threshold, count = 0, 0
    for event in log.select([pending.THRESHOLD, name]):
        if (event.time_us or 0) > until_us:
            break
        if event.name == pending.THRESHOLD:
            threshold = int(event.args["max_size"])
        elif threshold and _exact(event):
            count += _left(event) <= threshold
    return count


def _exact(event: "Event") -> bool:
    return bool(event.args.get("exact", True))


def _left(event: "Event") -> int:
    return int(event.args["total"] if "total" in event.args else event.args["size"])
