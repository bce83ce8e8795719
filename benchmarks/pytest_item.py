"""What a cell costs as a pytest item: set-up, call and teardown, beside the bare script.

    python -m benchmarks.pytest_item [--pairs 50] [--source SPEC] [--destination SPEC]

Pairs are interleaved in one process: each item is preceded by a bare migration of the same two
builds and machine type. The session's own start is printed apart.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks import bare_script, many_cells, pair, spread
from qmptests.builds import Build, newest_common_machine


class Stopwatch:
    """Times each item as a whole, and a bare migration before it."""

    def __init__(self, source: Build, destination: Build, socket: Path) -> None:
        self.sides = (source, destination)
        self.machine = newest_common_machine(source, destination, "q35")
        self.socket = socket
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.began = time.monotonic()
        self.started = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Both sides of a pair."""
        self.started = self.started or time.monotonic() - self.began
        began = time.monotonic()
        bare_script.cell(*self.sides, self.machine, self.socket)
        self.bare.append(time.monotonic() - began)
        self.socket.unlink(missing_ok=True)
        began = time.monotonic()
        result = yield
        self.ours.append(time.monotonic() - began)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50)
    options, source, destination = pair.parse(parser)
    os.environ["QMPTESTS_REPEAT"] = str(options.pairs + 1)
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
    watch = Stopwatch(source, destination, scratch / "socket")
    try:
        code = pytest.main(
            [
                *("-q", "-p", "no:cacheprovider", "--rootdir", str(scratch), "-c", os.devnull),
                *("--qemu-matrix", "smoke", "--qemu-machine", watch.machine, "--qemu-vm", "none"),
                *("--qemu-source", source.spec, "--qemu-destination", destination.spec),
                *("--qemu-results", str(scratch / "results"), many_cells.__file__),
            ],
            plugins=[watch],
        )
    finally:
        shutil.rmtree(scratch)
    if code != 0:
        raise SystemExit(f"pytest ended with {code}")
    print(f"{source.name} -> {destination.name}, {watch.machine}, 256 MiB, TCG, unix socket")
    print(f"session start until the first item: {watch.started:.2f} s")
    # The first of each warms the page cache and starts the launcher.
    print(spread.line("bare script", watch.bare[1:]))
    print(spread.line("our cell as a pytest item", watch.ours[1:]))
    print(f"item / bare script: {spread.ratio(watch.ours[1:], watch.bare[1:]):.2f}")


if __name__ == "__main__":
    main()
