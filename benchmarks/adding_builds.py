"""What getting and knowing a build costs.

    python -m benchmarks.adding_builds [--suite trixie] [--times 10]

First add: into an empty cache, with the moment of each step. Second add: the whole command, as a
user runs it. After a rebuild: a changed binary in a build tree, until it can be launched.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import spread
from qmptests import builds


def first_add(suite: str) -> None:
    began = time.monotonic()
    seen: set[str] = set()

    def step(text: str) -> None:
        what = text.partition(",")[0].split(": ")[-1].split()[0]
        if what not in seen:
            seen.add(what)
            print(f"  at {time.monotonic() - began:4.1f} s {text}")

    cached = os.environ.get("QMPTESTS_CACHE")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["QMPTESTS_CACHE"] = empty
        builds.add([f"debian:{suite}"], progress=step)
        print(f"first add, empty cache: {time.monotonic() - began:.1f} s")
    if cached is None:
        del os.environ["QMPTESTS_CACHE"]
    else:
        os.environ["QMPTESTS_CACHE"] = cached


def second_add(suite: str) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "qmptests.cli.main", "builds", "add", f"debian:{suite}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def after_a_rebuild(tree: Path, real: builds.Build, number: int) -> float:
    """A script that execs a real QEMU stands for the binary: what is measured is our side."""
    binary = tree / "qemu-system-x86_64"
    environment = " ".join(f"{name}={value}" for name, value in real.env.items())
    new = tree / "new"
    new.write_text(f'#!/bin/sh\n# {number}\nexec env {environment} {" ".join(real.argv)} "$@"\n')
    new.chmod(0o755)
    new.replace(binary)
    began = time.monotonic()
    builds.resolve(str(tree))
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    first_add(options.suite)
    real = builds.resolve(f"debian:{options.suite}", progress=print)
    print(spread.line("second add, whole command", _times(options.times, options.suite)))
    with tempfile.TemporaryDirectory() as tree:
        Path(tree, "config.status").write_text("#!/bin/sh\n# QEMU configure\n")
        runs = [after_a_rebuild(Path(tree), real, n) for n in range(options.times)]
    print(spread.line("known after a rebuild", runs))


def _times(times: int, suite: str) -> list[float]:
    return [second_add(suite) for _ in range(times)]


if __name__ == "__main__":
    main()
