"""How long does a run's page take to be built, and to be opened? 200 and 2,000 cells.

    python -m benchmarks.report_page [--cells 200 2000] [--repeats 5] [--source ...] ...

A few real migrations with emulated devices and REINITs are the evidence of all cells in turn.
Opened is a page when its chart is drawn, in headless Chromium, a new page each time, with the
empty page in between; times are from the navigation on, by the browser's own clock.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import pair
from qmptests.builds import Build
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.migration import Plan, migrate
from qmptests.report import page, runs
from qmptests.vm import devices, load
from tests.report.browser import Browser, browser

KINDS = ("none", "idle", "busy-reinit,stop_copy=8M")
#: Until the chart stands, and until all that the browser does with the page is done.
DRAWN = """
new Promise((done) => {
  const look = () => !document.querySelector('.chart') || document.documentElement.dataset.drawn
    ? requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0))
    : setTimeout(look, 1);
  look();
})
"""


def evidence(folder: Path, source: Build, destination: Build) -> list[str]:
    """Folders of real migrations, relative to the run's."""
    names = []
    for number, kind in enumerate(KINDS):
        profiles = () if kind == "none" else (devices.load(kind),)
        plan = Plan(
            source=source,
            destination=destination,
            definition=load("dirtier"),
            devices=profiles,
            capabilities={"return-path": True, "switchover-ack": bool(profiles)},
        )
        outcome = migrate(plan, folder / "cells" / str(number))
        assert outcome.completed, outcome
        names.append(f"cells/{number}")
    return names


def run_of(folder: Path, names: list[str], count: int) -> runs.Run:
    """So many cells; one of a hundred failed."""
    items = []
    for number in range(count):
        bad = number % 100 == 7
        machine = f"pc-q35-{number % 40 // 4}.{number % 4}"
        items.append(
            ItemResult(
                nodeid=f"test_cells.py::test_migrates[s10.0.13-d11.1.3-m.{machine}-n{number}]",
                verdict=Verdict.FAILED if bad else Verdict.PASSED,
                seconds=0.5,
                cell=f"s10.0.13-d11.1.3-m.{machine}-n{number}",
                coordinates={
                    "source": f"10.0.{number % 3}",
                    "destination": f"11.1.{number % 4}",
                    "machine": machine,
                },
                because=f"it was cell {number}" if bad else "",
                evidence=names[number % len(names)],
            )
        )
    results = RunResults(started=time.time(), seconds=60.0, items=items, exit=1)
    return runs.Run(folder, results, [])


def opened(one: Browser, file: Path) -> float:
    """Milliseconds until it stands."""
    one.open_only(file)
    return float(one.evaluate(DRAWN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--repeats", type=int, default=5)
    options, source, destination = pair.parse(parser)
    with tempfile.TemporaryDirectory() as scratch, browser() as one:
        folder = Path(scratch)
        names = evidence(folder, source, destination)
        empty = folder / "empty.html"
        empty.write_text("<!DOCTYPE html><title>empty</title><p>nothing</p>")
        for count in options.cells:
            file = folder / f"{count}.html"
            began = time.monotonic()
            page.write(run_of(folder, names, count), file)
            built = time.monotonic() - began
            times: dict[Path, list[float]] = {empty: [], file: []}
            for _ in range(options.repeats):
                for which, found in times.items():
                    found.append(opened(one, which))
            assert one.errors() == []
            ours, nothing = (sorted(times[which]) for which in (file, empty))
            print(
                f"{count} cells: built in {built:.2f} s, {file.stat().st_size / 1e6:.1f} MB; "
                f"opened in {statistics.median(ours):.0f} ms ({ours[0]:.0f} to {ours[-1]:.0f}), "
                f"an empty page in {statistics.median(nothing):.0f}"
            )


if __name__ == "__main__":
    main()
