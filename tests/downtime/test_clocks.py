"""The offset of two clocks is found from what the sides said and heard, and only as far as that."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from qmptests import builds
from qmptests.downtime import clocks, measures, sources
from qmptests.downtime.clocks import Bound, combine
from qmptests.downtime.moments import Witness
from qmptests.fixtures.migrating import Migration
from qmptests.fixtures.vfio import Vfio

Migrate = Callable[..., Migration]

VERSIONS = {"7.2": "debian:bookworm", "10.0": "debian:trixie", "11.1": "debian:trixie-backports"}
#: Longer than anything that happens in these migrations, so that it can't be taken for that.
SHIFTS_US = [3_700_000, -3_700_000]


def shifted(folder: Path, to: Path, us: int, side: str = "destination") -> Path:
    """A copy of the evidence in which that side's clock is so much ahead."""
    shutil.copytree(folder, to)
    trace = to / f"{side}.trace.log"
    trace.write_text("".join(_line(line, us) for line in trace.read_text().splitlines(True)))
    qmp = to / f"{side}.qmp.jsonl"
    messages = [json.loads(line) for line in qmp.read_text().splitlines()]
    for message in messages:
        message["time"] += us / 1e6
        if stamp := message.get("received", {}).get("timestamp"):
            at = stamp["seconds"] * 1_000_000 + stamp["microseconds"] + us
            stamp["seconds"], stamp["microseconds"] = divmod(at, 1_000_000)
    guest = to / f"{side}.guest.jsonl"
    reports = [json.loads(line) for line in guest.read_text().splitlines()]
    for report in reports:
        report["at"] += us
    _write(qmp, messages)
    _write(guest, reports)
    return to


def _line(line: str, us: int) -> str:
    """A line of a trace log, whichever version wrote it."""
    if old := re.match(r"(\d+@)(\d+)\.(\d{6}):", line):
        at = int(old[2] + old[3]) + us
        return f"{old[1]}{at // 1_000_000}.{at % 1_000_000:06}:{line[old.end() :]}"
    if new := re.match(r"(\S+)Z ", line):
        then = datetime.fromisoformat(new[1]) + timedelta(microseconds=us)
        return f"{then.isoformat(timespec='microseconds')}Z {line[new.end() :]}"
    return line


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize("return_path", [False, True], ids=["one-way", "return-path"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_clock_that_is_ahead_is_found_and_what_is_measured_stays_right(
    migration: Migrate, tmp_path: Path, version: str, return_path: bool
) -> None:
    build = builds.resolve(VERSIONS[version])
    outcome = migration(
        source=build, destination=build, capabilities={"return-path": return_path}
    ).run()
    assert outcome.completed, outcome
    right = sources.open(outcome.folder)
    offset = clocks.measure(right)
    assert (offset.destination_us, offset.uncertainty_us, offset.problems) == (0, 0, [])
    assert offset.low_us is not None
    assert offset.high_us is not None
    assert offset.low_us <= 0 <= offset.high_us
    assert offset.how.startswith("one host")
    true = measures.measure(right)
    assert true.ours_us is not None
    assert true.guest_us is not None
    for number, us in enumerate(SHIFTS_US):
        evidence = sources.open(shifted(outcome.folder, tmp_path / str(number), us))
        found = clocks.measure(evidence)
        assert found.uncertainty_us is not None
        assert abs(found.destination_us - us) <= found.uncertainty_us
        assert found.uncertainty_us < 1_000_000
        (problem,) = found.problems
        assert f"{found.destination_us / 1e6:.3f} s +- ".removeprefix("-") in problem
        assert ("ahead of" if us > 0 else "behind") in problem
        again = measures.measure(evidence, found)
        assert again.ours_us is not None
        assert again.guest_us is not None
        assert abs(again.ours_us - true.ours_us) <= found.uncertainty_us
        assert abs(again.guest_us - true.guest_us) <= found.uncertainty_us
        assert again.ours_uncertainty_us is not None
        assert again.ours_uncertainty_us >= found.uncertainty_us


#: Events of the source and the destination that go together, and who is first.
PAIRS = {
    "switchover-start": ("savevm_send_switchover_start", "com=SWITCHOVER_START", "source"),
    "section": ("save type=iterable idstr=ram", "load type=iterable idstr=ram", "source"),
    "ack": ("switchover_acked", "migrate_send_rp_message 7:", "destination"),
    "shut": ("checkpoint src-downtime-end", "migrate_send_rp_message 1:", "destination"),
}


def test_each_pair_of_events_bounds_the_offset_by_itself(
    migration: Migrate, vfio: Vfio, tmp_path: Path
) -> None:
    build = builds.resolve(VERSIONS["11.1"])
    outcome = migration(
        source=build,
        destination=build,
        capabilities=["return-path", "switchover-ack"],
        devices=[vfio.emulated("idle", initial="64K")],
    ).run()
    assert outcome.completed, outcome
    for name, (source, destination, first) in PAIRS.items():
        folder = shutil.copytree(outcome.folder, tmp_path / name)
        times = []
        for side, pattern in (("source", source), ("destination", destination)):
            (folder / f"{side}.qmp.jsonl").unlink()
            log = folder / f"{side}.trace.log"
            (line,) = [line for line in log.read_text().splitlines() if pattern in line]
            log.write_text(f"{line}\n")
            (event,) = sources.open(folder).moments(side, Witness.TRACE)
            # The bound is from the beginning of a save.
            times.append(event.at_us - (event.args.get("downtime", 0) if side == first else 0))
        offset = clocks.measure(sources.open(folder))
        apart = times[1] - times[0]
        expected = (None, apart) if first == "source" else (apart, None)
        assert (offset.low_us, offset.high_us) == expected, name


def test_a_clock_that_was_set_within_a_log_is_told(migration: Migrate, tmp_path: Path) -> None:
    """The destination's clock goes back by 3.7 s when its guest has been started."""
    build = builds.resolve(VERSIONS["11.1"])
    outcome = migration(source=build, destination=build, capabilities=["return-path"]).run()
    folder = shifted(outcome.folder, tmp_path / "set", 0)
    log = folder / "destination.trace.log"
    lines = log.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "dst-precopy-bh-vm-started" in line)
    log.write_text("".join(lines[:at] + [_line(line, -3_700_000) for line in lines[at:]]))
    evidence = sources.open(folder)
    offset = clocks.measure(evidence)
    assert any("destination.trace.log: the clock went back by 3.7" in p for p in evidence.problems)
    assert offset.destination_us == 0


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_side_without_logs_tells_nothing_of_its_clock(
    migration: Migrate, tmp_path: Path, side: str
) -> None:
    outcome = migration(vm="none").run()
    for log in outcome.folder.glob(f"{side}.*"):
        log.rename(tmp_path / log.name)
    offset = clocks.measure(sources.open(outcome.folder))
    assert (offset.destination_us, offset.low_us, offset.high_us) == (0, None, None)
    assert [problem.partition(":")[0] for problem in offset.problems] == ["clocks", "clocks"]


def test_each_attempt_is_compared_with_its_own_part_of_the_sources_logs(
    migration: Migrate,
) -> None:
    outcome = migration(
        capabilities=["pause-before-switchover"], cancel_at="pre-switchover", retries=1
    ).run()
    for attempt in (0, 1):
        offset = clocks.measure(sources.open(outcome.folder, attempt))
        assert (offset.destination_us, offset.uncertainty_us, offset.problems) == (0, 0, [])
        assert offset.low_us is not None
        assert offset.high_us is not None


# What is true of any clocks.

TIMES = st.integers(-(10**12), 10**12)
DELAYS = st.lists(st.integers(0, 10**7), max_size=5)


@given(TIMES, DELAYS, DELAYS)
@example(3_700_000, [400], [300])
@example(0, [0], [0])
def test_bounds_from_one_offset_give_it_within_its_uncertainty(
    true: int, there: list[int], back: list[int]
) -> None:
    at_most = [Bound(true + delay, "there") for delay in there]
    at_least = [Bound(true - delay, "back") for delay in back]
    offset = combine(at_most, at_least, one_host=False)
    assert offset.high_us == (true + min(there) if there else None)
    assert offset.low_us == (true - min(back) if back else None)
    if there and back:
        assert offset.uncertainty_us is not None
        assert abs(offset.destination_us - true) <= offset.uncertainty_us
        assert offset.uncertainty_us <= (min(there) + min(back) + 1) // 2 + 1
        assert not offset.problems
    else:
        assert offset.uncertainty_us is None
        assert offset.problems


@given(DELAYS, DELAYS)
def test_on_one_host_what_fits_is_one_clock(there: list[int], back: list[int]) -> None:
    at_most = [Bound(delay, "there") for delay in there]
    at_least = [Bound(-delay, "back") for delay in back]
    offset = combine(at_most, at_least)
    assert (offset.destination_us, offset.uncertainty_us) == (0, 0)
    assert len(offset.problems) == (not there) + (not back)


@given(TIMES, st.integers(0, 10**7), st.integers(0, 10**7))
def test_on_one_host_what_does_not_fit_is_measured_and_told(
    true: int, there: int, back: int
) -> None:
    assume(not true - back <= 0 <= true + there)
    offset = combine([Bound(true + there, "there")], [Bound(true - back, "back")])
    assert offset.uncertainty_us is not None
    assert abs(offset.destination_us - true) <= offset.uncertainty_us
    (problem,) = offset.problems
    assert "\n" not in problem


@given(TIMES, st.integers(1, 10**9), st.booleans())
def test_logs_that_contradict_each_other_are_told(us: int, by: int, one_host: bool) -> None:
    offset = combine([Bound(us, "there")], [Bound(us + by, "back")], one_host=one_host)
    assert offset.uncertainty_us is None
    assert offset.destination_us == 0 if one_host else us <= offset.destination_us <= us + by
    (problem,) = offset.problems
    assert "contradict" in problem


def test_an_offset_that_is_known_from_one_side_only_is_said_to_be() -> None:
    offset = combine([Bound(-5_000_000, "there")], [])
    assert (offset.destination_us, offset.uncertainty_us) == (-5_000_000, None)
    assert offset.problems[-1] == (
        "clocks: the destination's clock is at least 5.000 s behind the source's (there)"
    )
    offset = combine([], [Bound(4_200, "back")])
    assert offset.problems[-1] == (
        "clocks: the destination's clock is at least 4.2 ms ahead of the source's (back)"
    )
