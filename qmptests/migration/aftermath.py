"""What happens after the end: at the source does the guest run on, or do its devices stop?"""

import contextlib
from typing import TYPE_CHECKING

from qmptests.errors import EnvironmentFailure, TestedFailure
from qmptests.hosts import wait
from qmptests.migration.verdict import RUNNING
from qmptests.outcome.record import Result

if TYPE_CHECKING:
    from qmptests.migration.run import Run

#: Seconds that the source has to show it; less if it has used up its time before.
RUN_ON_S = 5.0
TIMED_OUT_S = 1.0
#: Seconds that QEMU has to stop the devices that it has migrated.
STOP_S = 2.0
STOP_COPYING = frozenset({"stop-copy", "pre-copy", "pre-copy-p2p"})
#: Results after which there is nothing to ask.
_ARRIVED_OR_UNKNOWN = frozenset({Result.COMPLETED, Result.ENVIRONMENT, Result.INTERRUPTED})


async def source_ran_on(run: "Run", result: Result) -> bool | None:
    """Whether the source's run state is running and, if its guest counts, the counter goes on.

    None: there is nothing to ask, or no source. Keeps the source's run state in the run.
    """
    source = run.source
    if result in _ARRIVED_OR_UNKNOWN:
        return None
    if not source.alive:
        return None if run.phase is None else False
    what = "the guest to run on at the source"
    with contextlib.suppress(TestedFailure, EnvironmentFailure):
        timeout = TIMED_OUT_S if result is Result.TIMED_OUT else RUN_ON_S
        return await wait(_runs(run), what=what, timeout=timeout, alive=[source.process])
    return False


async def devices_stopped(run: "Run") -> None:
    """After a migration that completed: QEMU takes the source's devices to STOP a little later.

    Whoever looks at them, or at QEMU's traces, wants to see that; a device that is kept from it by
    its script stays where it is.
    """
    emulation = run.source.emulation
    if emulation is None:
        return

    def stopped(_: object = None) -> bool:
        return not STOP_COPYING.intersection(emulation.states.values())

    if not stopped():
        with contextlib.suppress(TestedFailure):
            await wait(
                emulation.events.expect(stopped, since=emulation.events.mark),
                what="the source's devices to stop",
                timeout=STOP_S,
                alive=[run.source.process],
            )


async def _runs(run: "Run") -> bool:
    source = run.source
    mark = source.monitor.events.mark
    state = await source.runstate()
    if state == "finish-migrate":  # it failed in the switchover: QEMU lets the guest go on now
        await source.monitor.expect("RESUME", what="RESUME", timeout=None, since=mark)
        state = await source.runstate()
    run.runstates[source.name] = state
    if state == RUNNING and source.guest.ranges:  # a guest that has memory to check counts, too
        await source.guest_ready()
        await source.guest_counts_beyond(source.guest_console.counter or 0)
    return state == RUNNING
