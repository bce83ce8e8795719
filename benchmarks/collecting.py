"""What a large matrix costs before anything runs: selecting its cells, and collecting their items.

    python -m benchmarks.collecting [--cells 10000] [--select full]

In a process of its own, `pytest --collect-only` over the four Debian builds, both families of
machine types and as many capability sets as it takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import many_cells

SUITES = ("bookworm", "bookworm-backports", "trixie", "trixie-backports")
#: Each gives 450 cells over those builds for each transport and VM definition.
CAPABILITIES = ("none", "return-path", "xbzrle", "auto-converge", "release-ram", "zero-blocks")

WATCH = """
import json, os, time
import pytest
at = {}
def pytest_qmptests_selected(matrix):
    at["selected"], at["cells"] = time.monotonic(), len(matrix.cells)
@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    at["collected"], at["items"] = time.monotonic(), len(session.items)
def pytest_unconfigure(config):
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    at["peak_kib"] = int(peak.split()[1])
    with open(os.environ["WATCH"], "w") as file:
        json.dump(at, file)
@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    at["started"] = time.monotonic()
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    at["configured"] = time.monotonic()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--select", default="full")
    options = parser.parse_args()
    arguments = ["--collect-only", "-qqq", "-p", "no:cacheprovider", "-c", os.devnull]
    arguments += ["--qemu-matrix", options.select, "--qemu-vm", "none", "--qemu-vm", "dirtier"]
    for suite in SUITES:
        arguments += ["--qemu-build", f"debian:{suite}"]
    for transport in ("unix", "tcp", "fd"):
        arguments += ["--qemu-transport", transport]
    for name in CAPABILITIES[: max(1, -(-options.cells // (450 * 6)))]:
        arguments += ["--qemu-capabilities", name]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        Path(scratch, "watch.py").write_text(WATCH)
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "watch", "--rootdir", scratch),
                *(*arguments, many_cells.__file__),
            ],
            env={**os.environ, "PYTHONPATH": scratch, "WATCH": f"{scratch}/at.json"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        at = json.loads(Path(scratch, "at.json").read_text())
    selecting = at["selected"] - at["configured"]
    collecting = at["collected"] - at["started"]
    print(f"{at['cells']} cells ({at['items']} selected): builds resolved, cells selected and")
    print(f"written in {selecting:.2f} s; {at['items']} items collected in {collecting:.2f} s;")
    print(f"peak memory {at['peak_kib'] / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
