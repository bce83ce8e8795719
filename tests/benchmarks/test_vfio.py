"""The benchmarks of emulated devices still run, and print their figures."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

TINY = {
    "vfio_call": ("--calls 50 --rounds 1", r"DEVICE_GET_INFO +median +\d.*\nMIG_DATA_SIZE +median"),
    "vfio_content": ("--size-mib 2 --times 1", r"read and check +median"),
    "vfio_devices": ("--size 1M --devices 2 --pairs 1", r"total, 2 devices / one: \d"),
    "vfio_guest": ("--seconds 0.2 --pairs 1", r"with / without: \d"),
    "vfio_start": ("--rounds 1", r"one device: .* ms more, less a Python"),
    "vfio_stop_copy": ("--size 1M --pairs 1", r"downtime, checked / constant: \d"),
}


@pytest.mark.parametrize("name", TINY)
def test_it_runs_and_prints_its_figures(name: str) -> None:
    arguments, line = TINY[name]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments.split()],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(line, done.stdout), done.stdout
