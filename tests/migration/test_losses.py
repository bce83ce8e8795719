"""What the evidence lacks: of what QEMU writes itself, too, as far as that can be known."""

import os
from collections.abc import Callable
from pathlib import Path

from qmptests import builds
from qmptests.fixtures.migrating import Migration
from qmptests.migration import Observer, Phase, Run, arrival, losses
from qmptests.outcome.record import BuildRecord, EventRecord, GuestRecord, SideRecord, TraceRecord
from qmptests.trace import Volume

BUILD = BuildRecord(name="b", spec="/b", version="1", version_text="1", digest="d")
STATES = [EventRecord(name="MIGRATION", data={}, first=0, last=0, count=n) for n in (1, 2)]


def side(states: int, name: str = "source", **volume: object) -> SideRecord:
    found = Volume(events={"migrate_set_state": states}, **volume)  # type: ignore[arg-type]
    return SideRecord(
        name=name,
        build=BUILD,
        argv=[],
        environment={},
        events=STATES,
        trace=TraceRecord(enabled=["migrate_set_state"], unmatched=[], volume=found),
        guest=GuestRecord(),
    )


def test_a_log_with_each_state_of_the_migration_lost_none_of_these() -> None:
    assert list(losses.of([side(3)], ["source.qmp.jsonl: lost 1 line: Input/output error"])) == []
    (said,) = losses.of([side(2)], [])
    assert said == (
        "source.trace.log: lost lines: QMP announced 3 states of the migration, it has 2"
    )
    untraced = side(0)
    untraced.trace.enabled = []
    assert list(losses.of([untraced], [])) == []


def test_a_destination_may_announce_one_state_that_it_does_not_trace(
    migration: Callable[..., Migration],
) -> None:
    assert list(losses.of([side(2, "destination")], [])) == []
    assert len(list(losses.of([side(1, "destination-2")], []))) == 1
    oldest = builds.resolve("debian:bookworm")
    outcome = migration(vm="none", source=oldest, destination=oldest).run()
    assert outcome.record.evidence_problems == []


def test_a_line_that_is_cut_off() -> None:
    said = list(losses.of([side(3, truncated=True)], []))
    assert said == ["source.trace.log: its last line is cut off"]


def test_a_disk_that_was_full_for_us_was_so_for_qemu() -> None:
    said = list(losses.of([side(3)], ["source.vfio.jsonl: lost 9 lines: No space left on device"]))
    assert [text.partition(":")[0] for text in said] == ["source.trace.log", "source.stderr.log"]


def test_a_trace_that_the_user_sent_elsewhere(
    migration: Callable[..., Migration], tmp_path: Path
) -> None:
    outcome = migration(vm="none", source_args=("-D", f"{tmp_path}/mine.log")).run()
    assert outcome.completed
    (problem,) = outcome.record.evidence_problems
    assert problem.startswith("source.trace.log: lost lines: QMP announced ")
    assert "evidence incomplete: source.trace.log" in outcome.unchecked


def test_memory_that_can_not_be_kept_is_told_in_words(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.write_bytes(b"x")
    problems = arrival._keep(snapshot, tmp_path / "gone" / "destination.memory.bin")
    assert problems == ["destination.memory.bin could not be kept: No such file or directory"]
    assert not snapshot.exists()


class TakeAway(Observer):
    """Fault: somebody tidies up in the folder while it is written."""

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is Phase.ACTIVE:
            (run.folder / "source.qmp.jsonl").unlink()
            (run.folder / "source.stderr.log").unlink()
            os.truncate(run.folder / "destination.qmp.jsonl", 0)


class PutFolder(Observer):
    """Fault: a folder gets the name of a log."""

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is Phase.ENDED:
            (run.folder / "source.trace.log").unlink()
            (run.folder / "source.trace.log").mkdir()


def test_a_folder_in_the_place_of_a_log_is_told(migration: Callable[..., Migration]) -> None:
    outcome = migration(vm="none").run(PutFolder())
    assert outcome.completed
    problem = "source.trace.log: something else was put into its place"
    assert problem in outcome.record.evidence_problems


def test_files_that_are_taken_away_are_told(migration: Callable[..., Migration]) -> None:
    outcome = migration(vm="none").run(TakeAway())
    assert outcome.completed
    assert outcome.record.evidence_problems == [
        "source.qmp.jsonl: was removed while it was written",
        "source.stderr.log: was removed while it was written",
        "destination.qmp.jsonl: was cut while it was written",
    ]
