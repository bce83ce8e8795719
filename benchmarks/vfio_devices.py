"""What more devices cost: eight beside one with as many bytes of stop-copy in all.

    python -m benchmarks.vfio_devices [--size 512M] [--devices 8] [--pairs 5]
        [--source ...] [--destination ...]

Interleaved pairs; total time and downtime as QEMU reports them.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import pair, spread, vfio_migration
from benchmarks.vfio_migration import Measured
from qmptests.units import parse_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="512M")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    options, source, destination = pair.parse(parser)
    size = parse_size(options.size)
    print(f"{source.name} -> {destination.name}, {options.size} of stop-copy in all")
    runs: dict[int, list[Measured]] = {options.devices: [], 1: []}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for number in range(options.pairs + 1):
            for count, measured in runs.items():
                profiles = [f"idle,stop_copy={size // count}"] * count
                folder = Path(scratch, str(number))
                found = vfio_migration.run(source, destination, profiles, folder)
                if number:  # the first warms the page cache and starts the launcher
                    measured.append(found)
    for count, measured in runs.items():
        print(vfio_migration.lines(f"{count} of {size // count >> 20} MiB", measured, size))
    for what in ("downtime_s", "total_s"):
        ours, theirs = ([getattr(run, what) for run in measured] for measured in runs.values())
        ratio = spread.ratio(ours, theirs)
        print(f"{what.removesuffix('_s')}, {options.devices} devices / one: {ratio:.2f}")


if __name__ == "__main__":
    main()
