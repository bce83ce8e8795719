"""Random calls that no sane program makes; more of them: `python -m benchmarks.vfio_abuse`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", ["1", "2"])
def test_no_call_hangs_kills_or_bloats_the_supervisor(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vfio_abuse", "--calls", "200", "--seed", seed, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not [words for words in found["problems"] if "emulation is wrong itself" in words]
    assert {"0", "EINVAL", "EFAULT", "EBADF", "ENOTTY"} <= set(found["answers"])
    assert sum(found["answers"].values()) > 200
    assert found["slowest_ms"] < 1000, found["slowest"]
    before, after = found["descriptors"]
    assert after - before < 20
    before, after = found["resident_kib"]
    assert after - before < 20_000
