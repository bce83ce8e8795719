"""The dirtier in real QEMUs, on both machine families."""

import asyncio
import mmap
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from qmptests import builds, eventloop, hosts
from qmptests.guests import MemoryReport
from qmptests.hosts import wait
from qmptests.vm import VM, Definition
from qmptests.vm.command import Options

SPECS = ("debian:bookworm", "debian:trixie", "debian:trixie-backports")
DIRTIER = Definition(guest={"kind": "dirtier", "rate": "64M", "seed": 7})


def in_a_vm(
    folder: Path, spec: str, machine: str, talk: Callable[[VM], Awaitable[None]]
) -> list[str]:
    """Start a VM with a dirtier, `talk` to it once it is ready; the lines of its console."""

    async def go() -> None:
        build = builds.resolve(spec)
        options = Options(machine=build.facts.resolve_machine(machine))
        guest = DIRTIER.make_guest()
        vm = VM("guest", hosts.local(), build, DIRTIER, options, guest, folder)
        await vm.start()
        try:
            await vm.guest_ready()
            await talk(vm)
        finally:
            await vm.stop()

    eventloop.run(go())
    return (folder / "guest.console.log").read_text().splitlines()


async def look(vm: VM) -> MemoryReport:
    (path,), _ = await vm.snapshot(vm.guest.ranges)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as memory:
        report = vm.guest.check([memory])
    path.unlink()
    assert report is not None
    return report


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("spec", SPECS)
def test_at_any_instant_there_is_one_edge_and_the_guest_goes_on(
    tmp_path: Path, spec: str, machine: str
) -> None:
    reports = []

    async def talk(vm: VM) -> None:
        for _ in range(4):
            report = await look(vm)
            assert report.right, report.bad
            reports.append(report)
            await vm.guest_counts_beyond((vm.guest_console.counter or 0) + 1)

    in_a_vm(tmp_path, spec, machine, talk)
    written = [(r.generation, r.edge if r.edge is not None else r.pages) for r in reports]
    assert written == sorted(set(written))  # it wrote on between any two looks


def test_it_dirties_as_fast_as_it_was_told_in_its_own_time(tmp_path: Path) -> None:
    async def talk(vm: VM) -> None:
        await vm.guest_counts_beyond(50)

    lines = in_a_vm(tmp_path, "debian:trixie", "q35", talk)
    found = [re.fullmatch(r"c=([0-9a-f]{8}) p=([0-9a-f]{8})", line) for line in lines]
    counts = [(int(m[1], 16), int(m[2], 16)) for m in found if m]
    (reports, pages), (first_report, first_page) = counts[-1], counts[0]
    bytes_a_report = (pages - first_page) * 4096 / (reports - first_report)
    assert bytes_a_report == pytest.approx((64 << 20) * 0.010, rel=0.25)


def test_a_reset_is_noticed_as_a_reboot(tmp_path: Path) -> None:
    async def talk(vm: VM) -> None:
        assert vm.console.reboots == 0
        await vm.guest_counts_beyond(3)
        await vm.execute("system_reset")
        await wait(
            vm.console.until(lambda: vm.console.reboots == 1),
            what="the guest to start anew",
            timeout=30,
        )

    lines = in_a_vm(tmp_path, "debian:trixie", "q35", talk)
    assert sum(line.startswith("dirtier v1 start=") for line in lines) == 2


def test_a_stopped_guest_does_not_count(tmp_path: Path) -> None:
    async def talk(vm: VM) -> None:
        await vm.guest_counts_beyond(3)
        await vm.execute("stop")
        at_stop = await look_without_cont(vm)
        again = await look_without_cont(vm)
        assert at_stop == again

    in_a_vm(tmp_path, "debian:trixie", "q35", talk)


async def look_without_cont(vm: VM) -> tuple[int, int | None]:
    """The state of a stopped VM's memory; `snapshot` would let it go on."""
    (memory,) = vm.guest.ranges
    path = vm.host.scratch / "stopped"
    await vm.execute(
        "pmemsave", {"val": memory.address, "size": memory.length, "filename": str(path)}
    )
    report = await asyncio.to_thread(lambda: vm.guest.check([path.read_bytes()]))
    path.unlink()
    assert report is not None
    assert report.right
    return report.generation, report.edge
