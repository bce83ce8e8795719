"""Many cells in one process leave nothing behind.

    python -m benchmarks.thousand_cells [--cells 1000]

Counts descriptors, threads, child processes, files in the scratch and temporary directories and
resident memory after a warm-up and at the end; exits with 1 if anything grew.
"""

import argparse
import ctypes
import gc
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import pair
from qmptests.hosts import local
from qmptests.migration import Plan, migrate
from qmptests.vm import load

WARM_UP = 50
#: What counts as no growth: a cell that kept a KiB would show.
MEMORY_SLACK_KIB = 1024


def count() -> dict[str, int]:
    """What a process can leave behind; memory that is free already goes back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    owned = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _is_ours(p)]
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": threading.active_count(),
        "processes": len(owned),
        "scratch files": len(list(local().scratch.iterdir())),
        "temporary files": len(list(Path(tempfile.gettempdir()).iterdir())),
        "resident KiB": int(resident.split()[1]),
    }


def _is_ours(process: Path) -> bool:
    try:
        return local().marker.encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    options, source, destination = pair.parse(parser)
    plan = Plan(source, destination, load("none"))
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
    # A temporary directory of our own: others use the machine's.
    tempfile.tempdir = str(scratch / "tmp")
    Path(tempfile.tempdir).mkdir()
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    began = time.monotonic()
    try:
        for number in range(1, WARM_UP + options.cells + 1):
            outcome = migrate(plan, scratch / "results" / str(number))
            if not outcome.completed:
                raise SystemExit(f"not completed: {outcome}")
            shutil.rmtree(outcome.folder)
            if number == WARM_UP:
                before, began = count(), time.monotonic()
            if number % 100 == 0:
                print(number, count(), flush=True)
        seconds = time.monotonic() - began
        after = count()
    finally:
        shutil.rmtree(scratch)
    print(f"{options.cells} cells in {seconds:.0f} s")
    grown = []
    for name, value in before.items():
        print(f"{name:<16} {value} -> {after[name]}")
        slack = MEMORY_SLACK_KIB if name == "resident KiB" else 0
        if after[name] > value + slack:
            grown.append(name)
    raise SystemExit(f"grew: {', '.join(grown)}" if grown else 0)


if __name__ == "__main__":
    main()
