"""What checked content costs a migration: stop-copy data of one device, beside constant data.

    python -m benchmarks.vfio_stop_copy [--size 1G] [--pairs 5] [--source ...] [--destination ...]

Interleaved pairs: first with content of which each byte is checked on arrival, then with constant
data that nobody looks at. Downtime as QEMU reports it.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import pair, spread, vfio_migration
from benchmarks.vfio_migration import Measured
from qmptests.units import parse_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1G")
    parser.add_argument("--pairs", type=int, default=5)
    options, source, destination = pair.parse(parser)
    size = parse_size(options.size)
    print(f"{source.name} -> {destination.name}, {options.size} of stop-copy")
    runs: dict[bool, list[Measured]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for number in range(options.pairs + 1):
            for checked, measured in runs.items():
                folder = Path(scratch, str(number))
                found = vfio_migration.run(
                    source, destination, [f"idle,stop_copy={size}"], folder, checked=checked
                )
                if number:  # the first warms the page cache and starts the launcher
                    measured.append(found)
    print(vfio_migration.lines("checked", runs[True], size))
    print(vfio_migration.lines("constant", runs[False], size))
    ours, theirs = ([run.downtime_s for run in runs[checked]] for checked in (True, False))
    print(f"downtime, checked / constant: {spread.ratio(ours, theirs):.2f}")


if __name__ == "__main__":
    main()
