"""Cells per minute through pytest, serial and with xdist, beside the bare script as often.

    python -m benchmarks.cells_per_minute [--cells 100] [--rounds 3]

Rounds alternate between the script and pytest, with one process and with two. Rates are from the
first item's start to the last one's end: the start of pytest and its workers is printed apart.
The evidence of each cell is kept until its round ends, in `$TMPDIR`, the script keeps nothing; the
controller's peak memory is printed too.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks import bare_script, many_cells, pair
from qmptests import builds
from qmptests.builds import Build, newest_common_machine

#: In pytest's process: notes when the first item began and the last ended, and its own memory.
WATCH = """
import json, os, time
times, began = [], time.time()
def pytest_runtest_logreport(report):
    times.extend((report.start, report.stop))
def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        return
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    with open(os.environ["WATCH"], "w") as file:
        json.dump({"began": began, "first": min(times), "last": max(times),
                   "peak_kib": int(peak.split()[1])}, file)
"""


def bare_loop(specs: tuple[str, str], cells: int, ready: Barrier) -> None:
    source, destination = (builds.resolve(spec) for spec in specs)
    machine = newest_common_machine(source, destination, "q35")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        ready.wait()
        for _ in range(cells):
            bare_script.cell(source, destination, machine, Path(scratch) / "socket")
            (Path(scratch) / "socket").unlink(missing_ok=True)


def bare_rate(sides: tuple[Build, Build], cells: int, processes: int) -> float:
    specs = (sides[0].spec, sides[1].spec)
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(processes + 1)
    share = cells // processes
    running = [
        context.Process(target=bare_loop, args=(specs, share, ready)) for _ in range(processes)
    ]
    for process in running:
        process.start()
    ready.wait()
    began = time.monotonic()
    for process in running:
        process.join()
    return share * processes / (time.monotonic() - began) * 60


def pytest_rate(sides: tuple[Build, Build], cells: int, workers: int) -> dict[str, float]:
    source, destination = sides
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
    (scratch / "watch.py").write_text(WATCH)
    try:
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "watch"),
                *("--rootdir", str(scratch), "-c", os.devnull, "-n", str(workers)),
                *("--qemu-matrix", "smoke", "--qemu-machine", "q35", "--qemu-vm", "none"),
                *("--qemu-source", source.spec, "--qemu-destination", destination.spec),
                *("--qemu-results", str(scratch / "results"), many_cells.__file__),
            ],
            env={
                **os.environ,
                "QMPTESTS_REPEAT": str(cells),
                "PYTHONPATH": str(scratch),
                "WATCH": str(scratch / "times.json"),
            },
            check=True,
            stdout=subprocess.DEVNULL,
        )
        times: dict[str, float] = json.loads((scratch / "times.json").read_text())
    finally:
        shutil.rmtree(scratch)
    return {
        "rate": cells / (times["last"] - times["first"]) * 60,
        "start_s": times["first"] - times["began"],
        "peak_mib": times["peak_kib"] / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options, *sides = pair.parse(parser)
    both = (sides[0], sides[1])
    print(f"{both[0].name} -> {both[1].name}, no guest, {options.cells} cells a round")
    for processes in (1, 2):
        bare, ours = [], []
        for number in range(options.rounds):
            bare.append(bare_rate(both, options.cells, processes))
            ours.append(pytest_rate(both, options.cells, processes if processes > 1 else 0))
            print(
                f"  round {number + 1}, {processes} process(es): script {bare[-1]:.0f}, "
                f"pytest {ours[-1]['rate']:.0f} cells/min, started in {ours[-1]['start_s']:.2f} s, "
                f"controller's peak {ours[-1]['peak_mib']:.0f} MiB"
            )
        theirs, mine = statistics.median(bare), statistics.median(o["rate"] for o in ours)
        print(
            f"{processes} process(es), medians: script {theirs:.0f}, pytest {mine:.0f} cells/min: "
            f"script / pytest {theirs / mine:.2f}"
        )


if __name__ == "__main__":
    main()
