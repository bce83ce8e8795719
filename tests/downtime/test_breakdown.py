"""The breakdown of real migrations: a call that was made slow is where it says that time went."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from qmptests import builds
from qmptests.downtime import activities, breakdown, breakdown_text, critical, layout, sources
from qmptests.downtime.breakdown import Breakdown
from qmptests.downtime.critical import READ, UNATTRIBUTED, WRITE
from qmptests.fixtures.migrating import Migration
from qmptests.fixtures.vfio import Vfio
from qmptests.migration import Observer, Phase, Run, WhenHeld
from qmptests.outcome import Outcome
from qmptests.vfio.calls_read import CallLog

Migrate = Callable[..., Migration]

VERSIONS = {"10.0": "debian:trixie", "11.1": "debian:trixie-backports"}
PLANTED_MS = 50
SLOW = "vf1"
#: The rule that makes a call slow, whose log has it, and whose time it must be.
PLANTS = {
    "arc-on-the-source": (
        "set-state:stop-copy+{}+side=source",
        ("source", "stop", SLOW, ""),
    ),
    "read": ("read+{}+in=stop-copy+side=source", ("source", "save", SLOW, READ)),
    "write": ("write+{}+after_bytes=128K+side=destination", ("destination", "load", SLOW, WRITE)),
    "arc-on-the-destination": (
        "set-state:running-p2p+{}+side=destination",
        ("destination", "start", SLOW, ""),
    ),
}


class Cont(Observer):
    """Has the guest go on at a destination that was started with -S."""

    async def reached(self, phase: Phase, run: Run) -> None:
        """Once all has arrived."""
        if phase is Phase.ENDED:
            await run.destination.monitor.expect(
                "MIGRATION",
                lambda data: data == {"status": "completed"},
                what="the guest to arrive",
                timeout=30,
            )
            await run.destination.execute("cont")


def found(outcome: Outcome) -> Breakdown:
    """The breakdown; what holds for each is checked."""
    assert outcome.completed, outcome
    made = breakdown.of(sources.open(outcome.folder))
    assert made is not None
    assert (made.path[0].begin_us, made.path[-1].end_us) == (made.begin_us, made.end_us)
    assert all(first.end_us == second.begin_us for first, second in pairwise(made.path))
    assert sum(share.us for share in made.shares()) == made.us
    assert all(len(line) <= layout.WIDTH for line in breakdown_text.lines(made))
    return made


async def arrived(run: Run) -> None:
    """The guest goes on at the destination."""
    await run.destination.monitor.expect("RESUME", what="the guest to arrive", timeout=30)


def devices(vfio: Vfio, *rules: str, **keys: object) -> list[object]:
    """Four, with so little data that no socket's buffer is too small for it; rules for one."""
    keys = {"initial": "32K", "stop_copy": "128K", "announce": "16K", "watch_writes": True} | keys
    when = {"when": list(rules)} if rules else {}
    return [vfio.emulated("idle", **keys, **(when if f"vf{n}" == SLOW else {})) for n in range(4)]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("multifd", [False, True], ids=["main-channel", "multifd"])
@pytest.mark.parametrize("return_path", [False, True], ids=["one-way", "return-path"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_slow_call_of_one_device_is_where_the_time_went(
    migration: Migrate, vfio: Vfio, version: str, return_path: bool, multifd: bool, plant: str
) -> None:
    build = builds.resolve(VERSIONS[version])
    rule, owner = PLANTS[plant]
    rules, observers = [rule.format(f"delay={PLANTED_MS}ms")], []
    if multifd and not return_path:  # or QEMU loses data: docs/findings/vfio-multifd-one-way.md
        rules.append("set-state:stop+hold+side=source")
        observers.append(WhenHeld("source", arrived))
    outcome = migration(
        source=build,
        destination=build,
        devices=devices(vfio, *rules),
        capabilities={"return-path": return_path, "multifd": multifd},
        transport="tcp",
    ).run(*observers)
    assert all(observer.count for observer in observers)
    made = found(outcome)
    log = CallLog(outcome.folder / f"{owner[0]}.vfio.jsonl")
    slow = max(log.calls(rule.partition("+")[0].partition(":")[0], SLOW), key=lambda c: c.us or 0)
    assert slow.us is not None
    assert slow.us >= PLANTED_MS * 1000
    within = {
        (s.side, s.step, s.owner, s.what): min(s.end_us, slow.at + slow.us)
        - max(s.begin_us, slow.at)
        for s in made.path
        if s.begin_us < slow.at + slow.us and s.end_us > slow.at
    }
    side, step, _, what = owner
    if what:
        (busy,) = [b for b in made.busy if (b.side, b.step, b.owner) == (side, step, SLOW)]
        assert (busy.calls_us or 0) >= PLANTED_MS * 1000
    most = max(within, key=lambda key: within[key])
    if multifd and what and most != owner:
        # Threads are side by side: on a busy machine another one may be later than the slow one.
        assert most[1] in ("save", "load")
        assert most[2] in {f"vf{n}" for n in range(4)} - {SLOW}
        return
    assert most == owner
    share = next(s for s in made.shares() if (s.side, s.step, s.owner, s.what) == owner)
    assert share.us >= PLANTED_MS * 1000 * 0.9


def test_writes_that_nobody_watched_are_said_to_be_unknown(migration: Migrate, vfio: Vfio) -> None:
    build = builds.resolve(VERSIONS["11.1"])
    wanted = migration(source=build, destination=build, devices=devices(vfio, watch_writes=False))
    made = found(wanted.run())
    (note,) = made.notes
    assert note.startswith("destination: nobody watched the writes to vf0, vf1, vf2, vf3")
    loads = [b for b in made.busy if (b.side, b.step, b.owner) == ("destination", "load", SLOW)]
    assert [load.calls_us for load in loads] == [None]


def test_7_2_tells_no_more_than_that_the_guest_stood_still(migration: Migrate) -> None:
    build = builds.resolve("debian:bookworm")
    made = found(migration(source=build, destination=build).run())
    assert [segment.owner for segment in made.path] == [UNATTRIBUTED]
    assert len(made.notes) == 4
    assert "does not tell the steps of downtime" in made.notes[0]


def test_waiting_for_migrate_continue_is_named(migration: Migrate) -> None:
    capabilities = ["return-path", "pause-before-switchover"]
    made = found(migration(capabilities=capabilities).run())
    assert "migrate-continue" in [share.owner for share in made.shares()]


def test_the_second_attempt_is_not_taken_for_the_first(migration: Migrate) -> None:
    outcome = migration(
        capabilities=["pause-before-switchover"], cancel_at="pre-switchover", retries=1
    ).run()
    made = found(outcome)
    second = outcome.record.attempts[1]
    assert second.started * 1e6 <= made.begin_us < made.end_us
    assert ("source", "stop", "vCPUs") in {(s.side, s.step, s.owner) for s in made.shares()}
    assert breakdown.of(sources.open(outcome.folder, 0)) is None


def test_a_section_takes_as_long_as_qemu_says(migration: Migrate) -> None:
    outcome = migration(source=builds.resolve(VERSIONS["11.1"])).run()
    made = found(outcome)
    (saved,) = outcome.source.trace.events("vmstate_downtime_save", type="iterable", idstr="ram")
    last = outcome.source.trace.last("vmstate_downtime_save", type="non-iterable", idstr="ram")
    whole = int(saved.args["downtime"]) + (int(last.args["downtime"]) if last else 0)
    (busy,) = [b for b in made.busy if (b.side, b.step, b.owner) == ("source", "save", "ram")]
    assert busy.us == whole


def test_the_destinations_clock_is_set_right(migration: Migrate) -> None:
    """As if the logs came from a host whose clock is 2 s ahead."""
    build = builds.resolve(VERSIONS["11.1"])
    wanted = migration(source=build, destination=build, capabilities=["return-path"])
    outcome = wanted.run()
    before = found(outcome)
    log = outcome.folder / "destination.trace.log"
    stamps = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})(?=Z )", re.MULTILINE)

    def later(match: re.Match[str]) -> str:
        return (datetime.fromisoformat(match[1]) + timedelta(seconds=2)).isoformat(
            "T", "microseconds"
        )

    shifted, count = stamps.subn(later, log.read_text())
    assert count > 10
    log.write_text(shifted)
    evidence = sources.open(outcome.folder)
    after = critical.path(
        activities.of(evidence, "source"),
        activities.of(evidence, "destination", 2_000_000),
        before.begin_us,
        before.end_us,
    )
    loads = [s for s in before.path if s.side == "destination" and s.step == "load"]
    assert [s for s in after if s.side == "destination" and s.step == "load"] == loads


def test_a_destination_that_waits_for_cont_is_named(migration: Migrate) -> None:
    wanted = migration(source=builds.resolve(VERSIONS["11.1"]))
    plan = replace(wanted.plan, destination_args=("-S",))
    made = found(replace(wanted, plan=plan).run(Cont()))
    assert made.path[-1].step == "paused"
    assert made.path[-1].owner == "cont"


def test_without_the_destinations_logs_there_is_none(migration: Migrate, tmp_path: Path) -> None:
    outcome = migration(vm="none").run()
    for log in outcome.folder.glob("destination.*"):
        log.rename(tmp_path / log.name)
    evidence = sources.open(outcome.folder)
    assert breakdown.of(evidence) is None
    assert any("destination" in problem for problem in evidence.problems)
