"""No damage to what is kept, and no control message, is more than a line to who reads it."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmptests.builds import Build

CHECKOUT = Path(__file__).resolve().parents[2]


def test_three_hundred_mutations(source_build: "Build", destination_build: "Build") -> None:
    """Each reader of each kind of file; ten thousand: python -m benchmarks.mutations."""
    sides = ("--source", source_build.spec, "--destination", destination_build.spec)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mutations", "--count", "300", *sides],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 cases, seed 1: 0 bad" in done.stdout
