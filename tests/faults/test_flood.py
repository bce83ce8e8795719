"""A flood of events and trace lines: the transcript stays small, and so does our memory."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.outcome import Result, folder

if TYPE_CHECKING:
    from qmptests.builds import Build

#: The source waits for an acknowledgement of the switchover, as machine types up to 11.0 have it
#: without any device; the destination, as newer ones, sends none without a device. Meanwhile the
#: source asks what is left to be sent as fast as it can: each time a MIGRATION_PASS.
FLOOD = """
import sys
from dataclasses import replace
from pathlib import Path
from qmptests import builds
from qmptests.migration import Plan, migrate
from qmptests.vm import load

LEGACY = "migration.switchover-ack-legacy=on"

def peak_kib():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])

build = builds.resolve(sys.argv[1])
plan = Plan(
    source=build,
    destination=build,
    definition=load("none"),
    capabilities={"return-path": True, "switchover-ack": True},
    timeout_s=float(sys.argv[2]),
    trace=tuple(sys.argv[3:]),
)
flooded = replace(plan, source_args=("-global", LEGACY))
migrate(replace(flooded, timeout_s=0.2), Path("short"))
before = peak_kib()
migrate(flooded, Path("out"))
print(peak_kib() - before)
"""


@pytest.fixture
def flood(start: Callable[..., Any], destination_build: "Build") -> Callable[..., tuple[Any, int]]:
    """Runs it, and returns the command and by how many KiB our memory grew.

    From the newer build to itself: it is the one that asks without pause.
    """
    if destination_build.facts.version < (11, 1, 0):
        pytest.skip(f"{destination_build.name} does not ask without pause: QEMU 11.1 does")

    def run(seconds: float, *patterns: str) -> tuple[Any, int]:
        command = start(destination_build.spec, seconds, *patterns, python=("-c", FLOOD))
        ended = command.finish()
        assert (ended.status, ended.err) == (0, ""), ended
        return command, int(ended.out)

    return run


def test_a_flood_of_events_is_stored_by_its_runs(flood: Callable[..., tuple[Any, int]]) -> None:
    command, grown_kib = flood(2.0, "migrate_set_state")
    out = command.folder / "out"
    outcome = folder.load(out)
    assert outcome.result is Result.TIMED_OUT
    assert outcome.source is not None
    passes = [event for event in outcome.source.events if event.name == "MIGRATION_PASS"]
    total = sum(event.count for event in passes)
    assert total > 1000, "no flood, so nothing is proved"
    assert len(passes) < 20
    assert passes[-1].data["pass"] >= total
    longest = max(passes, key=lambda event: event.count)
    assert longest.count > 1000
    assert longest.first < longest.last
    transcript = (out / "source.qmp.jsonl").read_text().splitlines()
    assert len(transcript) < 100
    messages = [json.loads(line) for line in transcript]
    seen = [m for m in messages if m.get("received", {}).get("event") == "MIGRATION_PASS"]
    assert sum(m.get("count", 1) for m in seen) == total
    assert grown_kib < 4 << 10


def test_a_flood_of_trace_lines_takes_no_memory(flood: Callable[..., tuple[Any, int]]) -> None:
    command, grown_kib = flood(1.0, "*")
    log = command.folder / "out" / "source.trace.log"
    assert log.stat().st_size > 8 << 20, "no flood, so nothing is proved"
    assert folder.load(command.folder / "out").perturbed
    assert grown_kib < 16 << 10
