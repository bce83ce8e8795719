"""What is written of calls that are held is so: whether QMP answers meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace as changed

from qmptests import eventloop, hosts
from qmptests.fixtures.migrating import Migration
from qmptests.migration import Observer, Phase
from qmptests.migration.run import Run
from qmptests.vfio import when
from qmptests.vfio.emulation import Emulation
from qmptests.vm import VM, devices, load
from qmptests.vm.command import Options

Migrate = Callable[..., Migration]

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "vfio.md").read_text()
#: Seconds in which an answer must come, and in which none may.
ANSWER_S, SILENCE_S = 20.0, 0.3


#: Firmware whose first, and only, doing is to write byte 60 of the first device's configuration:
#: mov eax,0x8000803c; mov dx,0xcf8; out dx,eax; mov dx,0xcfc; mov al,0; out dx,al; cli; hlt
WRITES = bytes.fromhex("66b83c800080 baf80c 66ef bafc0c b000 ee faf4ebfd")
FIRMWARE = WRITES.rjust(0x10000 - 16, b"\x90") + b"\xeb" + bytes([0xFE - len(WRITES)]) + bytes(14)


class Row(NamedTuple):
    """One of the table's."""

    side: str
    rule: str
    with_: str
    answers: str

    @property
    def line(self) -> str:
        """The rule as a script has it."""
        call, _, rest = self.rule.partition("+")
        text = f"{call}+hold+side={self.side}+{rest}".rstrip("+")
        return when.parse(text).line()


ROWS = [
    Row(*(cell.strip().replace("`", "") for cell in line.split("|")[1:-1]))
    for line in TEXT.splitlines()
    if line.startswith(("| source |", "| destination |"))
]
#: How a migration differs that has the rows with this word.
PLANS: dict[str, dict[str, Any]] = {
    "": {},
    "dirty_tracking=iommu": {},
    "migrate_cancel": {"cancel_at": "active"},
    "multifd": {"capabilities": ["return-path", "multifd"]},
    "system_reset": {},
}


async def held(emulation: Emulation) -> AsyncIterator[str]:
    """The rules at which something is held from now on."""
    seen = emulation.events.mark
    while True:
        event = await emulation.events.expect(lambda event: event.name == "held", seen)
        seen = event.last_number + 1
        before = [e for e in emulation.events if e.last_number < event.last_number]
        yield next(str(e.data["rule"]) for e in reversed(before) if e.name == "fired")


class Look(Observer):
    """Each time a call of either side is held: looks whether QMP answers, and releases it.

    `found`: by rule, whether it did. Out of band it must answer in any case, and at last in all.
    `later`: rules for the source, which is reset then.
    """

    def __init__(self, later: list[str]) -> None:
        self.found: dict[str, bool] = {}
        self._later = later
        self._looked = asyncio.Event()
        self._watches: list[asyncio.Task[None]] = []
        self._answers: list[asyncio.Future[Any]] = []

    async def reached(self, phase: Phase, run: Run) -> None:
        """From the start of both VMs to the end of what is to be seen."""
        if phase is Phase.STARTED:
            vms = (run.source, run.destination)
            self._watches = [asyncio.create_task(self._watch(vm)) for vm in vms]
            if self._later:
                await self._reset(run.source)
        elif phase is Phase.STOPPED:
            for watch in self._watches:
                await hosts.abandon(watch)
            await asyncio.gather(*self._answers)

    async def _watch(self, vm: VM) -> None:
        assert vm.emulation is not None
        async for rule in held(vm.emulation):
            answer = asyncio.ensure_future(vm.monitor.execute("query-status", timeout=ANSWER_S))
            self._answers.append(answer)
            await vm.monitor.execute("yank", {"instances": []}, timeout=ANSWER_S, oob=True)
            await asyncio.wait({answer}, timeout=SILENCE_S)
            self.found[rule] = answer.done()
            self._looked.set()
            await vm.emulation.request("release")

    async def _reset(self, vm: VM) -> None:
        assert vm.emulation is not None
        for line in self._later:
            await vm.emulation.add_rule("vf0", when.parse(line).rule())
        await vm.execute("system_reset")
        while len(self.found) < len(self._later):
            self._looked.clear()
            await hosts.wait(self._looked.wait(), what="the calls after a reset", timeout=20)


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("with_", PLANS)
def test_qmp_answers_while_a_call_is_held_where_it_is_said_to(
    migration: Migrate, side: str, with_: str, tmp_path: Path
) -> None:
    """With the build of either side, which may be of different versions."""
    rows = [row for row in ROWS if row.with_ == with_]
    lines = [row.line for row in rows]
    later = lines if with_ == "system_reset" else []
    text = ",".join(["idle,initial=1M", *(f"when={line}" for line in lines if not later)])
    if "=" in with_:
        text += f",{with_}"
    both = migration().plan
    build = both.source if side == "source" else both.destination
    look = Look(later)
    (tmp_path / "firmware").write_bytes(FIRMWARE)
    definition = changed(load("none"), args=["-bios", str(tmp_path / "firmware")])
    plan = {"capabilities": ["return-path"], **PLANS[with_]}
    wanted = migration(
        vm=definition, source=build, destination=build, devices=[devices.load(text)], **plan
    )
    outcome = wanted.run(look)
    # A cancel that meets an error is a failure to QEMU; what is looked at here comes before.
    ends = ("cancelled", "failed-destination-exited") if "cancel_at" in plan else ()
    assert outcome.completed or outcome.record.result in ends, outcome
    said = {row.line: row.answers for row in rows}
    assert look.found.keys() == said.keys()
    wrong = {
        line: "yes" if answered else "no"
        for line, answered in look.found.items()
        if said[line] not in (("yes" if answered else "no"), "now and then")
    }
    assert not wrong


@pytest.mark.parametrize("side", ["source", "destination"])
def test_qmp_is_not_there_while_a_call_is_held_before_qemu_has_started(
    migration: Migrate, side: str, tmp_path: Path
) -> None:
    """At none of the calls of which this is said, and these are those that can be held then."""
    calls = re.findall(r"`([a-z0-9:-]+)`", TEXT.rpartition("QMP is not there: at")[2])
    assert len(calls) > 10
    lines = [when.parse(f"{call}+hold").line() for call in calls]
    profile = devices.load(",".join(["idle", *(f"when={line}" for line in lines)]))
    plan = migration().plan
    build = plan.source if side == "source" else plan.destination
    machine = build.facts.resolve_machine("q35")
    options = Options(machine=machine, devices=(profile,))
    found = []

    async def go() -> None:
        definition = load("none")
        vm = VM(
            "source", hosts.local(), build, definition, options, definition.make_guest(), tmp_path
        )
        await vm.host.start()
        starting = asyncio.ensure_future(vm.start())
        assert vm.emulation is not None
        try:
            async with asyncio.timeout(30):
                async for rule in held(vm.emulation):
                    await asyncio.wait({starting}, timeout=0.05)
                    assert not starting.done(), rule
                    found.append(rule)
                    await vm.emulation.request("release")
                    if len(found) == len(lines):
                        break
                await starting
        finally:
            await hosts.abandon(starting)
            await vm.stop()

    eventloop.run(go())
    assert sorted(found) == sorted(lines)
