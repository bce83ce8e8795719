"""Whether an emulated device slows the guest's own work down.

    python -m benchmarks.vfio_guest [--seconds 2] [--pairs 5] [--source ...]

Interleaved pairs under TCG: a guest that writes memory as fast as it can, without a device and with
one that does nothing, under the filter. Pages that it has written for each second of processor time
that QEMU had, which other programs on the machine change less than those of a second.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import pair
from qmptests import eventloop, hosts
from qmptests.builds import Build
from qmptests.vm import VM, Definition, devices
from qmptests.vm.command import Options

GUEST = Definition(guest={"kind": "dirtier", "rate": 0})


def pages(vm: VM) -> int:
    """What the guest's last whole report says."""
    reports = [
        words for words in vm.files.console.read_bytes().split(b"\n") if words.startswith(b"c=")
    ]
    return int(reports[-2].partition(b" p=")[2], 16)


def cpu_s(vm: VM) -> float:
    """Processor time of QEMU's so far (proc(5), utime and stime in `stat`)."""
    fields = Path(f"/proc/{vm.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def work(build: Build, profiles: Sequence[str], seconds: float, folder: Path) -> float:
    """Pages for each second of processor time."""
    options = Options(
        machine=build.facts.resolve_machine("q35"),
        devices=tuple(devices.load(profile) for profile in profiles),
    )
    vm = VM("guest", hosts.local(), build, GUEST, options, GUEST.make_guest(), folder)
    await vm.start()
    try:
        await vm.guest_counts_beyond(10)
        written, taken = pages(vm), cpu_s(vm)
        await asyncio.sleep(seconds)
        return ((pages(vm) - written) & 0xFFFFFFFF) / (cpu_s(vm) - taken)
    finally:
        await vm.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--pairs", type=int, default=5)
    options, source, _ = pair.parse(parser)
    print(f"{source.name}, a guest that writes 16 MiB over and over, TCG")
    rates: dict[str, list[float]] = {"one device": [], "without a device": []}
    for number in range(options.pairs):
        sides: list[tuple[str, list[str]]] = [("one device", ["idle"]), ("without a device", [])]
        for name, profiles in sides if number % 2 else reversed(sides):
            with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
                rate = eventloop.run(work(source, profiles, options.seconds, Path(scratch)))
            rates[name].append(rate)
    for name, found in rates.items():
        print(
            f"{name:<28} median {statistics.median(found) / 1e3:7.1f} thousand pages a second, "
            f"{min(found) / 1e3:.1f} to {max(found) / 1e3:.1f} ({len(found)} runs)"
        )
    ours, theirs = (statistics.median(found) for found in rates.values())
    print(f"with / without: {ours / theirs:.3f}")


if __name__ == "__main__":
    main()
