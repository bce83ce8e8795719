"""What a migration through the library costs beside the shortest hand-written script.

    python -m benchmarks.cell [--pairs 30] [--source debian:trixie] [--destination ...]

Interleaved pairs in one process: a bare cell, then ours with the same machine and memory and no
guest (evidence kept, torn down), then ours with the `dirtier` guest, its memory checked.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks import bare_script, pair, spread
from qmptests.migration import Plan, migrate
from qmptests.vm import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    options, source, destination = pair.parse(parser)
    plans = {vm: Plan(source, destination, load(vm)) for vm in ("none", "dirtier")}
    machine = plans["none"].resolved_machine()
    print(f"{source.name} -> {destination.name}, {machine}, 256 MiB, TCG, unix socket")
    times: dict[str, list[float]] = {"bare script": [], "none": [], "dirtier": []}
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        for number in range(options.pairs + 1):
            began = time.monotonic()
            bare_script.cell(source, destination, machine, scratch / "socket")
            taken = {"bare script": time.monotonic() - began}
            (scratch / "socket").unlink(missing_ok=True)
            for vm, plan in plans.items():
                began = time.monotonic()
                outcome = migrate(plan, scratch / f"{vm}-{number}")
                taken[vm] = time.monotonic() - began
                if not outcome.completed:
                    raise SystemExit(f"not completed: {outcome}")
                shutil.rmtree(outcome.folder)
            if number:  # the first warms the page cache and starts the launcher
                for name, seconds in taken.items():
                    times[name].append(seconds)
    finally:
        shutil.rmtree(scratch)
    print(spread.line("bare script", times["bare script"]))
    print(spread.line("our cell, no guest", times["none"]))
    print(spread.line("our cell, dirtier checked", times["dirtier"]))
    print(f"no guest / bare script: {spread.ratio(times['none'], times['bare script']):.2f}")


if __name__ == "__main__":
    main()
