"""Does a comparison of runs say what is true? The same twice, and one device a tenth slower.

    python -m benchmarks.report_verdicts [--repeats 10] [--source ...] [--destination ...]

Three sides in turn: A, A again, and B, whose vf0 takes a tenth longer to be loaded. Each repeat of
a side is a run folder with all cells, read back and compared as `qmptests report` does. Printed: of
A against A how many figures are called changed, and worse; of A against B in how many cells the
load of vf0 is found worse, by how much, and what else is called worse.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import pair
from qmptests.builds import Build
from qmptests.downtime.work import Step
from qmptests.migration import Plan, migrate
from qmptests.report import between, comparison, runs
from qmptests.report.between import Comparison
from qmptests.units import parse_size
from qmptests.vm import devices, load

PLANTED = 1.1
SLOW = "vf0"
SIDES = ("A", "A again", "B")
#: Bytes of stop-copy data, and how many a second can be loaded, the first 4 MiB being free.
LOADS = (("8M", "100M"), ("16M", "100M"), ("16M", "50M"))
WAYS: tuple[tuple[str, ...], ...] = ((), ("return-path",), ("return-path", "switchover-ack"))
COUNTS = (1, 2)


def cells(source: Build, destination: Build, factor: float) -> dict[str, Plan]:
    """The plans by name; vf0's load takes `factor` of its time."""
    found = {}
    for size, rate in LOADS:
        for way in WAYS:
            for count in COUNTS:
                rates = [parse_size(rate)] * count
                rates[int(SLOW[2:])] = round(rates[int(SLOW[2:])] / factor)
                spec = f"idle,initial=64K,stop_copy={size},watch_writes=on,write_bandwidth="
                found[f"{size}-{rate}-{count}-{'+'.join(way) or 'none'}"] = Plan(
                    source=source,
                    destination=destination,
                    definition=load("none"),
                    devices=tuple(devices.load(f"{spec}{one}") for one in rates),
                    capabilities=dict.fromkeys(way, True),
                )
    return found


def of(folder: Path, side: str, repeats: int) -> between.Cells:
    """A side's repeats, as its run folders have them."""
    return between.repeats([runs.read(folder / f"{side}-{number}") for number in range(repeats)])


def changed(found: Comparison) -> str:
    """How many of the cells' figures are called so, and which."""
    rows = [(cell.name, row) for cell in found.cells for row in cell.rows]
    seen = [f"{name} {row.name} {row.effect.part:+.1%}" for name, row in rows if row.changed]
    certain = sum(row.changed and row.certain for _, row in rows)
    part = len(seen) / len(rows)
    return "\n  ".join(
        [f"{len(seen)} of {len(rows)} figures seem changed, {part:.1%}; {certain} certain", *seen]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    options, source, destination = pair.parse(parser)
    plans = {side: cells(source, destination, PLANTED if side == "B" else 1) for side in SIDES}
    print(
        f"{source.name} -> {destination.name}, {len(plans['A'])} cells, {options.repeats} repeats"
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number in range(options.repeats):
            for name in plans["A"]:
                for side in SIDES if number % 2 else reversed(SIDES):
                    done = migrate(plans[side][name], folder / f"{side}-{number}" / "cells" / name)
                    assert done.completed, done
        a, again, b = (of(folder, side, options.repeats) for side in SIDES)
        print(f"{time.monotonic() - began:.0f} s")
        print(f"the same twice: {changed(between.compare(a, again))}")
        planted = between.compare(a, b)
    loads = [
        (row, cell.name)
        for cell in planted.cells
        for row in cell.rows
        if row.name == f"{SLOW} {Step.LOAD}"
    ]
    seen = [row for row, _ in loads if row.changed and row.effect.shift > 0]
    parts = sorted(row.effect.part for row, _ in loads)
    print(
        f"the load of {SLOW} a tenth slower: found in {len(seen)} of {len(loads)} cells, certain "
        f"among all {len(planted.rows)} figures in {sum(row.worse for row in seen)}, "
        f"{parts[0]:+.1%} to {parts[-1]:+.1%}"
    )
    for row, name in loads:
        if not row.worse:
            print(
                f"  not in {name}: {comparison.figure(row.effect.before)} ms, "
                f"{row.effect.part:+.1%} ({comparison.interval(row.effect)}), "
                f"{comparison.words(row)}"
            )
    elsewhere = [
        f"{cell.name} {row.name} {row.effect.part:+.1%}"
        for cell in planted.cells
        for row in cell.rows
        if row.worse and row.name not in {f"{SLOW} {Step.LOAD}", "downtime", "total"}
    ]
    print(f"worse besides downtime and total: {elsewhere or 'nothing'}")
    downtimes = sum(r.worse for c in planted.cells for r in c.rows if r.name == "downtime")
    print(f"downtime found worse in {downtimes} of {len(planted.cells)} cells")


if __name__ == "__main__":
    main()
