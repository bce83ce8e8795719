"""REINITs between the acks and the switchover, of as many devices as one likes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qmptests.migration import Observer, Phase, settings
from qmptests.suites.switchover_ack import observed
from qmptests.vfio import when

if TYPE_CHECKING:
    from qmptests.migration import Run
    from qmptests.outcome import Outcome
    from qmptests.trace import Event

#: With the first nothing fits into the limit; the second is QEMU's default.
NEVER = {"downtime-limit": 0}
USUAL = {"downtime-limit": settings.DOWNTIME_LIMIT_MS}
TIMEOUT_S = 20.0


class ReinitAfterAck(Observer):
    """REINITs devices one by one when the source has all acks, and then lets it switch over.

    Devices of a QEMU that has not opted in to REINIT (10.0) have as much dirty data from the
    beginning; nothing would keep it from switching over, which does not look at stop-copy data.
    A device may be named several times. `sizes`: bytes that appear with each, 1 MiB if not given.
    `in_turn`: each is acked before the next.
    """

    def __init__(self, *devices: str, sizes: Sequence[int] = (), in_turn: bool = False) -> None:
        self.devices = devices
        self.sizes = sizes or [1 << 20] * len(devices)
        self.in_turn = in_turn
        self.opted_in = False

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Close the way before the migration, and open it when all have had their REINIT."""
        emulation = run.source.emulation
        assert emulation is not None
        if phase is Phase.READY:
            self.opted_in = observed.opted_in(run.source.trace.log)
            if self.opted_in:
                await run.execute(run.source, "migrate-set-parameters", NEVER)
            else:
                for device, size in zip(self.devices, self.sizes, strict=True):
                    await emulation.request("reinit", device, value=size)
        elif phase is Phase.ACTIVE and self.opted_in:
            acked = await _acked(run, None)
            for device, size in zip(self.devices, self.sizes, strict=True):
                rule = when.parse(f"precopy-info+reinit={size}").rule()
                mark = emulation.events.mark
                await emulation.add_rule(device, rule)
                what = f"{device} to be asked again"
                await emulation.expect("fired", what=what, timeout=TIMEOUT_S, since=mark)
                if self.in_turn:
                    acked = await _acked(run, acked)
            await run.execute(run.source, "migrate-set-parameters", USUAL)


async def _acked(run: "Run", after: "Event | None") -> "Event":
    """Wait until the source has all acks, once more."""
    return await run.source.trace.wait_for(
        observed.ACKED,
        switchover_ack_pending_num=0,
        timeout=TIMEOUT_S,
        after=after,
        what="all acks",
    )


def assert_reinits(outcome: "Outcome", reinit: ReinitAfterAck) -> None:
    """Each device's was after all of the first acks and before the decision, or nobody asked."""
    names = dict.fromkeys(reinit.devices)
    calls = [call for name in names for call in observed.reinits(outcome, name)]
    times = [time for call in calls for time in (call.at, call.until or call.at)]
    if not reinit.opted_in:
        assert times == []
        sent = [chunk for device in outcome.source.record.devices for chunk in device.sent]
        late = sum(chunk.bytes for chunk in sent if chunk.kind == "dirty")
        assert late == sum(reinit.sizes)
        return
    # Equal answers to questions in a row are one entry of the log.
    count = sum(call.times for call in calls)
    assert count == len(reinit.devices), "not reached: a device had no REINIT"
    trace = outcome.source.trace
    acked = trace.first(observed.ACKED, switchover_ack_pending_num=0)
    decided = trace.first(observed.DECIDED)
    assert acked
    assert decided
    assert (acked.time_us or 0) <= min(times), "not reached: the REINIT was before the ack"
    assert max(times) <= (decided.time_us or 0), "not reached: the REINIT was after the decision"
