"""Whether QEMU's downtime, ours and the guest's own agree, and where they don't, by what.

    python -m benchmarks.downtime_agreement [--runs 10]
        [--builds debian:trixie debian:trixie-backports]

Migrations of a guest that reports, with the return path, without it, and with it and a pause before
the switchover, in turns. They are to agree within 3 ms or 2 %, whatever is larger, where the return
path is used: "near" counts those that do, "apart" is how far they are from ours.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from qmptests import builds
from qmptests.builds import Build
from qmptests.downtime import measures, sources
from qmptests.downtime.measures import TOLERANCE, TOLERANCE_US, Measures
from qmptests.migration import Plan, migrate
from qmptests.vm import load

CASES: dict[str, dict[str, bool]] = {
    "return-path": {"return-path": True},
    "one-way": {},
    "pause-before-switchover": {"return-path": True, "pause-before-switchover": True},
}


def run(build: Build, capabilities: dict[str, bool], folder: Path) -> Measures:
    """One migration's downtimes."""
    outcome = migrate(Plan(build, build, load("dirtier"), capabilities=capabilities), folder)
    if not outcome.completed:
        raise SystemExit(f"not as it should be: {outcome}")
    measured = measures.measure(sources.open(outcome.folder))
    shutil.rmtree(outcome.folder)
    return measured


def lines(name: str, runs: Sequence[Measures]) -> list[str]:
    """The three figures, how far they are from ours, and the intervals by which."""
    out = [name]
    for what in ("qemu_us", "ours_us", "guest_us"):
        known, apart, near = [], [], 0
        for one in runs:
            us = getattr(one, what)
            if us is not None and one.ours_us is not None:
                known.append(us)
                apart.append(abs(us - one.ours_us))
                near += apart[-1] <= max(TOLERANCE_US, TOLERANCE * one.ours_us)
        out.append(
            f"  {what.removesuffix('_us'):<6} median {_ms(known)}, apart median {_ms(apart)}, "
            f"at most {max(apart, default=0) / 1e3:5.1f} ms; near: {near} of {len(runs)}"
        )
    for difference in sorted({interval.name for one in runs for interval in one.differences}):
        sizes = [d.us for one in runs for d in one.differences if d.name == difference]
        out.append(f"  {difference}: median {_ms(sizes)}, in {len(sizes)} of {len(runs)}")
    return out


def _ms(us: Sequence[int]) -> str:
    return f"{statistics.median(us) / 1e3:6.2f} ms" if us else "not known"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--builds", nargs="+", default=["debian:trixie", "debian:trixie-backports"])
    options = parser.parse_args()
    found: dict[tuple[str, str], list[Measures]] = {}
    resolved = [builds.resolve(spec, progress=print) for spec in options.builds]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for number in range(options.runs):
            for build in resolved:
                for case, capabilities in CASES.items():
                    found.setdefault((build.name, case), []).append(
                        run(build, capabilities, Path(scratch, str(number)))
                    )
    for key, runs in found.items():
        print(*lines(", ".join(key), runs), sep="\n")


if __name__ == "__main__":
    main()
