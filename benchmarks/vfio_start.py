"""What an emulated device costs a VM's start: from nothing to an answered `query-status`.

    python -m benchmarks.vfio_start [--rounds 20] [--source ...]

Interleaved: without a device, with one, and what one start of Python takes that does nothing, in
which a supervisor's own start is measured.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import pair, spread
from qmptests import eventloop, hosts
from qmptests.builds import Build
from qmptests.vm import VM, devices, load
from qmptests.vm.command import Options


async def start(build: Build, profiles: list[str], folder: Path) -> float:
    """Seconds until it has said that it runs."""
    definition = load("none")
    options = Options(
        machine=build.facts.resolve_machine("q35"),
        devices=tuple(devices.load(profile) for profile in profiles),
    )
    guest = definition.make_guest()
    vm = VM("source", hosts.local(), build, definition, options, guest, folder)
    began = time.monotonic()
    await vm.start()
    try:
        assert await vm.runstate() == "running"
        return time.monotonic() - began
    finally:
        await vm.stop()


def start_python() -> float:
    """Seconds of a Python that does nothing."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options, source, _ = pair.parse(parser)
    print(f"{source.name}, no guest, TCG")
    times: dict[str, list[float]] = {"without a device": [], "one device": [], "Python": []}
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
            taken = {
                "without a device": eventloop.run(start(source, [], Path(scratch))),
                "one device": eventloop.run(start(source, ["idle"], Path(scratch))),
                "Python": start_python(),
            }
        if number:  # the first warms the page cache and starts the launcher
            for name, seconds in taken.items():
                times[name].append(seconds)
    for name, measured in times.items():
        print(spread.line(name, measured))
    without, one, python = (statistics.median(measured) for measured in times.values())
    more = (one - without) * 1e3
    print(f"one device: {more:.1f} ms more, less a Python {more - python * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
