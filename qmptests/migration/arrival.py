"""The guest at the destination: does it run there, and is its memory what it wrote?"""

import asyncio
import contextlib
import mmap
import shutil
from pathlib import Path

from qmptests.guests import Guest
from qmptests.hosts import WaitTimeout, deadline, wait
from qmptests.outcome.record import MemoryRecord
from qmptests.vm.vm import VM

#: Seconds in which a guest that never reported on the source must show that it runs.
SHOW_S = 10.0
#: Seconds between two looks at its memory; a report of its own is noticed at once.
LOOK_S = 0.1


async def check(
    destination: VM, guest: Guest, counter: int | None
) -> tuple[MemoryRecord | None, bool]:
    """What its memory was like, and whether it was seen to run.

    `counter`: its last report on the source, beyond which it must count here. One that had not
    reported yet (its interval may be longer than the migration) runs if it reports here, or if its
    memory changes. Raises WaitTimeout for a counter that stands still.
    """
    if counter is not None:
        await destination.guest_counts_beyond(counter)
        memory = await check_memory(destination, guest)
        await destination.guest_counts_beyond(destination.guest_console.counter or 0)
        return memory, True
    memory = await check_memory(destination, guest)
    with contextlib.suppress(WaitTimeout):
        return await wait(
            _shown(destination, guest, memory),
            what="the guest to show that it runs",
            timeout=deadline(SHOW_S),
            alive=[destination.process],
        )
    return memory, False


def reboots(destination: VM) -> int:
    """How often the guest began anew here: as it says itself, or as QEMU was asked by it."""
    resets = [
        e.count
        for e in destination.monitor.events
        if e.name == "RESET" and e.data.get("reason") == "guest-reset"
    ]
    return max(destination.console.reboots, sum(resets))


async def _shown(
    destination: VM, guest: Guest, memory: MemoryRecord | None
) -> tuple[MemoryRecord | None, bool]:
    """The last look at its memory, once it has reported or its memory has changed."""
    while memory is not None and memory.right:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                destination.console.until(lambda: destination.guest_console.alive), LOOK_S
            )
            return memory, True
        before, memory = memory, await check_memory(destination, guest)
        if memory and (memory.generation, memory.edge) != (before.generation, before.edge):
            return memory, True
    return memory, False


async def check_memory(vm: VM, guest: Guest) -> MemoryRecord | None:
    """Compare the destination's memory with what the guest must have written; None: it can't tell.

    Memory that is wrong stays in the evidence, as `NAME.memory.bin`.
    """
    files, stopped_ms = await vm.snapshot(guest.ranges)
    with contextlib.ExitStack() as stack:
        snapshots = [stack.enter_context(_mapped(path)) for path in files]
        report = guest.check(snapshots)
    problems = []
    for path in files:
        if report is None or report.right:
            path.unlink()
        else:
            problems += _keep(path, vm.files.folder / f"{vm.name}.memory.bin")
    if report is None:
        return None
    return MemoryRecord(
        right=report.right,
        pages=report.pages,
        bad_pages=report.bad_pages,
        generation=report.generation,
        edge=report.edge,
        stopped_ms=round(stopped_ms, 3),
        problems=[f"page {bad.page} at {bad.address:#x}: {bad.problem}" for bad in report.bad]
        + problems,
    )


def _keep(snapshot: Path, kept: Path) -> list[str]:
    """Move it; what went wrong, in words: that memory is wrong must be told all the same."""
    try:
        shutil.move(snapshot, kept)
    except OSError as error:
        for path in (snapshot, kept):
            path.unlink(missing_ok=True)
        return [f"{kept.name} could not be kept: {error.strerror}"]
    return []


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
