"""SIGKILL at random moments, between fork and exec too, leaves no process behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qmptests.hosts.strays import MARKER, kill_strays

SCRIPT = Path(__file__).with_name("kill_me.py")
MOMENTS = 25
#: For `sh -c`: one exec after another.
EXEC_FOR_EVER = 'exec sh -c "$0" "$0"'


def living(marker: str) -> list[int]:
    """Processes of that run, zombies not counted: nobody can kill those."""
    found = []
    wanted = f"{MARKER}={marker}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("victim", ["owner", "launcher"])
def test_nothing_survives(victim: str) -> None:
    """50 moments in all. What the victim owned is gone within seconds, scratch folder included."""
    chance = random.Random(f"{victim} 1")
    for moment in range(MOMENTS):
        with subprocess.Popen([sys.executable, SCRIPT], stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            marker, launcher, scratch = owner.stdout.readline().decode().split()
            time.sleep(chance.uniform(0, 0.05))  # the moment, not a synchronisation
            assert living(marker), "nothing ran, so nothing could survive"
            os.kill(owner.pid if victim == "owner" else int(launcher), signal.SIGKILL)
            owner.wait(timeout=10)
        deadline = time.monotonic() + 10
        while (left := living(marker)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not left, f"after SIGKILL of the {victim} at moment {moment}: {left}"
        while Path(scratch).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not Path(scratch).exists()


def test_a_process_in_the_middle_of_an_exec_is_no_hiding_place() -> None:
    """It has no environment for that time, which is long for one with much to be copied."""
    padding = {f"PADDING_{number}": "x" * 100_000 for number in range(15)}
    for number in range(20):
        marker = f"test-{os.getpid()}-{number}"
        environment = {**os.environ, **padding, MARKER: marker}
        with subprocess.Popen(["sh", "-c", EXEC_FOR_EVER, EXEC_FOR_EVER], env=environment) as stray:
            try:
                kill_strays(marker)
                assert stray.wait(timeout=10) == -signal.SIGKILL, number
            finally:
                stray.kill()
