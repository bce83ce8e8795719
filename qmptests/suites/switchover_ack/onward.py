"""A VM that has arrived goes on to a third QEMU: what was a destination is a source then."""

from typing import TYPE_CHECKING

import msgspec

from qmptests.migration import Observer, arrival, settings, transport
from qmptests.outcome import Result
from qmptests.outcome.record import DeviceRecord
from qmptests.suites.switchover_ack import observed
from qmptests.trace import TraceLog
from qmptests.vm import VM

if TYPE_CHECKING:
    from qmptests.migration import Run
    from qmptests.outcome import Outcome
    from qmptests.outcome.record import MemoryRecord

NAME = "onward"
#: Seconds for it to get there.
TIMEOUT_S = 20.0


class Onward(Observer):
    """Once the first migration has completed, a second one to a QEMU of the source's build.

    The plan's capabilities and parameters hold for it too. `memory`: what it was found to be there.
    `devices`: what became of its emulated ones. Its evidence lies with that of the two others.
    """

    def __init__(self) -> None:
        self.memory: MemoryRecord | None = None
        self.devices: list[DeviceRecord] = []
        self.enabled: frozenset[str] = frozenset()

    async def judged(self, result: Result, error: str, run: "Run") -> None:  # noqa: ARG002
        """Start it, migrate, look, and stop it."""
        if result is not Result.COMPLETED:
            return
        here = run.destination
        options = msgspec.structs.replace(run.source.options, incoming=True)
        there = VM(
            NAME, here.host, run.plan.source, here.definition, options, here.guest, run.folder
        )
        self.enabled = there.trace.log.enabled
        try:
            await there.start()
            await self._migrate(run, here, there)
        finally:
            await there.stop()
        if there.emulation is not None:
            report = list(there.emulation.report.values())
            self.devices = msgspec.convert(report, list[DeviceRecord])

    async def _migrate(self, run: "Run", here: VM, there: VM) -> None:
        plan = run.plan
        capabilities = settings.capabilities_for(plan.capabilities, source=False)
        wanted = [{"capability": name, "state": on} for name, on in capabilities.items()]
        await there.execute("migrate-set-capabilities", {"capabilities": wanted})
        parameters = settings.parameters_for(plan.all_parameters, source=True)
        await here.execute("migrate-set-parameters", parameters)
        await there.devices_ready()
        counter = here.guest_console.counter
        mark = here.monitor.events.mark
        way = transport.make(plan.transport)
        try:
            incoming = await way.listen(there, plan.channels)
            await there.execute("migrate-incoming", incoming)
            await here.execute("migrate", await way.connect(here, there, plan.channels))
            await here.monitor.expect(
                "MIGRATION",
                lambda data: data.get("status") == "completed",
                what="the way on to complete",
                timeout=TIMEOUT_S,
                since=mark,
            )
        finally:
            way.close()
        await there.monitor.expect("RESUME", what="the VM to run there", timeout=TIMEOUT_S)
        if counter is not None:
            await there.guest_counts_beyond(counter)
            self.memory = await arrival.check_memory(there, there.guest)

    def trace(self, outcome: "Outcome") -> TraceLog:
        """The third QEMU's."""
        return TraceLog(outcome.folder / f"{NAME}.trace.log", enabled=self.enabled)

    def on_the_wire(self, outcome: "Outcome") -> int:
        """Acks that it sent."""
        trace = self.trace(outcome)
        return trace.count("migrate_send_rp_message", type=observed.RP_SWITCHOVER_ACK)
