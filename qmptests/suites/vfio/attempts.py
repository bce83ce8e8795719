"""A migration that fails or is cancelled, and a second one from the same source."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qmptests.migration import Observer, Phase, WhenHeld, aftermath
from qmptests.outcome import Result
from qmptests.outcome.record import SideRecord
from qmptests.vfio.emulation import Emulation

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.migration import Run
    from qmptests.outcome import Outcome


#: Bytes a second at which the guest's memory takes so long that no device's data is read.
SLOW, FAST = 1 << 16, 128 << 20


def gives_up_soon(wanted: "Migration") -> "Migration":
    """The same, of which it is known that it never ends."""
    return replace(wanted, plan=replace(wanted.plan, timeout_s=1.5))


class SecondAttempt(Observer):
    """Before the second attempt: the source runs on, and its devices are RUNNING.

    The rules of the destination's devices are for the first alone: they are taken back.
    """

    def __init__(self) -> None:
        self.count = 0

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Look, once the second destination is there."""
        if phase is not Phase.CONFIGURED or not run.attempts:
            return
        self.count += 1
        assert await aftermath.source_ran_on(run, Result.CANCELLED), run.runstates
        here, there = run.source.emulation, run.destination.emulation
        assert here is not None
        assert there is not None
        await running(here)
        for device in there.devices:
            for number, _ in enumerate(device.rules, 1):
                await there.request("unrule", device.name, number=number)


class CancelWhenHeld(WhenHeld):
    """Sends `migrate_cancel` while the source's device is held, and releases it.

    QEMU may hear of it only afterwards: then the command waits in its socket. A device that is
    held once more stays so until QEMU has answered.
    """

    def __init__(self) -> None:
        super().__init__("source", self._cancel)
        self._sent: asyncio.Future[Any] | None = None

    async def reached(self, phase: Phase, run: "Run") -> None:
        """QEMU has taken it by the end of the attempt."""
        if phase is Phase.ENDED and self._sent is not None:
            await self._sent
        await super().reached(phase, run)

    async def _cancel(self, run: "Run") -> None:
        if self._sent is not None:
            await self._sent
            return
        self._sent = asyncio.ensure_future(run.source.execute("migrate_cancel"))
        assert run.source.emulation is not None
        await run.source.emulation.request("status")  # once that is answered, it has been sent


class InPrecopy(Observer):
    """Sends commands to the source of the first attempt before any of its device's data is read.

    `states`: the device's after each.
    """

    def __init__(self, *commands: str) -> None:
        self.commands = commands
        self.states: list[str] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Slow it down, send them, let it go."""
        if phase is Phase.CONFIGURED:
            await run.source.execute("migrate-set-parameters", {"max-bandwidth": SLOW})
        elif phase is Phase.ACTIVE:
            for command in () if run.attempts else self.commands:
                await run.source.execute(command)
                assert run.source.emulation is not None
                status = await run.source.emulation.request("status")
                self.states.append(status["devices"][0]["state"])
            await run.source.execute("migrate-set-parameters", {"max-bandwidth": FAST})


async def running(emulation: Emulation) -> None:
    """Wait until all devices are in the state RUNNING."""
    mark = emulation.events.mark
    for device in (await emulation.request("status"))["devices"]:
        if device["state"] != "running":
            await entered(emulation, device["name"], "running", mark)


async def entered(emulation: Emulation, device: str, state: str, since: int) -> int:
    """Wait until a device has entered a state after a mark; the mark behind that."""

    def matches(data: dict[str, Any]) -> bool:
        return data == {"device": device, "state": state}

    what = f"{device} to be in the state {state}"
    event = await emulation.expect("state", matches, what=what, timeout=30, since=since)
    return event.last_number + 1


def gave_up(side: SideRecord) -> bool:
    """Whether a QEMU exited of its own accord, with a failure."""
    return side.exit is not None and side.exit.returncode == 1 and not side.exit.asked


def said(outcome: "Outcome", side: str = "source") -> str:
    """What a QEMU wrote to its standard error; the first destination is "destination"."""
    return (outcome.folder / f"{side}.stderr.log").read_text(encoding="utf-8", errors="replace")
