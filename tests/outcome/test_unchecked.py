"""What was not checked, or had no effect, stands beside the result."""

import re
from pathlib import Path

import msgspec
import pytest

from qmptests import builds
from qmptests.builds import Build
from qmptests.outcome import Outcome
from qmptests.outcome import effects as effects_module
from qmptests.outcome.effects import WITNESSES, effects
from qmptests.outcome.record import (
    BuildRecord,
    ChunkRecord,
    DeviceRecord,
    ExitRecord,
    GuestRecord,
    HostRecord,
    MemoryRecord,
    OutcomeRecord,
    PlanRecord,
    Result,
    SideRecord,
    TraceRecord,
)
from qmptests.outcome.unchecked import line, unchecked
from qmptests.trace import Volume

BUILD = BuildRecord(name="b", spec="/b", version="1", version_text="1", digest="d")
HOST = HostRecord(hostname="", kernel="", cpu="", cpus=1, memory_bytes=1, python="", load_1min=0)
MEMORY = MemoryRecord(right=True, pages=1, bad_pages=0, generation=1, edge=None, stopped_ms=0)


@pytest.fixture(scope="module")
def real_builds() -> list[Build]:
    suites = ("bookworm", "bookworm-backports", "trixie", "trixie-backports", "forky")
    return [builds.resolve(f"debian:{suite}") for suite in suites]


def side(name: str, enabled: list[str] | None = None, **counts: int) -> SideRecord:
    """Its trace log has an event of each of `counts` so often, and one that is always there."""
    volume = Volume(lines=1 + sum(counts.values()), events={"migrate_set_state": 1, **counts})
    trace = TraceRecord(enabled=enabled or [], unmatched=[], volume=volume)
    argv = ["-m", "256M"]
    return SideRecord(
        name=name, build=BUILD, argv=argv, environment={}, trace=trace, guest=GuestRecord()
    )


def record(capability: str = "", **changed: object) -> OutcomeRecord:
    plan = PlanRecord(
        machine="m",
        accelerator="tcg",
        definition={},
        capabilities={capability: True} if capability else {},
        parameters={},
        transport="unix",
        address_form="uri",
        trace=[],
        expected="completed",
        timeout_s=1,
    )
    found = OutcomeRecord(
        qmptests="0",
        name="n",
        created=0,
        host=HOST,
        plan=plan,
        source=side("source"),
        destinations=[side("destination")],
        memory=MEMORY,
        result=Result.COMPLETED,
    )
    return msgspec.structs.replace(found, **changed)


def test_all_was_checked() -> None:
    assert unchecked(record()) == []
    assert line(record()) == "completed"


def test_a_guest_whose_memory_nobody_knows() -> None:
    assert line(record(memory=None)) == "completed; guest and memory not checked"


def test_a_failure_says_nothing_good_unless_it_was_expected() -> None:
    failed = record(result=Result.FAILED_DESTINATION_EXITED, source_ran_on=False, memory=None)
    assert unchecked(failed) == []
    failed.plan.expected = failed.result
    assert unchecked(failed) == ["guest not seen to go on at the source"]
    failed.source_ran_on = True
    assert unchecked(failed) == []


def test_a_guest_that_was_not_seen_after_a_cancel() -> None:
    cancelled = record(result=Result.CANCELLED, source_ran_on=False)
    assert line(cancelled) == "cancelled; guest not seen to go on at the source"


def test_devices() -> None:
    """Of an emulated one its data are compared, if there are any; of others nothing."""
    seen = record()
    seen.plan.definition = {"devices": ["nvme,serial=1"]}
    seen.plan.devices = [{"name": "usb", "vfio": None}, {"name": "busy", "vfio": {}}]
    seen.plan.devices[1]["vfio"] = {"stop_copy": "1M"}
    assert seen.source is not None
    sent = [ChunkRecord(kind="end", generation=1, bytes=8)]
    seen.source.devices = [
        DeviceRecord(name="vf0", profile="busy", seed=1, state="stop", sent=sent),
        DeviceRecord(name="vf1", profile="busy", seed=1, state="running"),
    ]
    assert unchecked(seen) == ["devices nvme, usb, vf1 (it sent nothing) not checked"]


def test_devices_among_other_options() -> None:
    seen = record()
    seen.plan.definition = {"args": ["-device", "nvme,serial=1"]}
    seen.plan.source_args = ["-snapshot", "-device", "e1000e"]
    seen.plan.destination_args = ["-device", "e1000e", "--device", "usb-kbd"]
    assert unchecked(seen) == ["devices nvme, e1000e, usb-kbd not checked"]


def test_a_parameter_of_what_is_off() -> None:
    seen = record()
    seen.plan.parameters = {"multifd-channels": 4, "downtime-limit": 5}
    assert unchecked(seen) == ["multifd-channels: no effect without multifd"]
    seen.plan.capabilities = {"multifd": True}
    assert "multifd-channels" not in line(seen)


def test_every_parameter_of_a_capability_is_one_of_qemus(real_builds: list[Build]) -> None:
    known = {name for build in real_builds for name in build.facts.parameters}
    starts = set(effects_module._PARAMETERS)
    assert {start for start in starts if any(n.startswith(start) for n in known)} == starts
    assert set(effects_module._PARAMETERS.values()) <= WITNESSES.keys()


def test_one_binary_under_two_names() -> None:
    assert line(record(same_binary=True)) == "completed; both builds are the same binary"


def test_who_did_not_quit() -> None:
    killed = side("source")
    killed.exit = ExitRecord(returncode=-9, text="", cpu_s=0, max_rss_kib=0, asked=True)
    (said,) = unchecked(record(source=killed))
    assert said == "the source did not quit when it was told to, and was killed"


def test_evidence_that_lost_something() -> None:
    problems = ["source.vfio.jsonl: lost 3 lines", "source.vfio.jsonl: no end", "x: No space left"]
    seen = unchecked(record(evidence_problems=problems))
    assert seen == ["evidence incomplete: source.vfio.jsonl, x"]


def test_a_trace_event_that_shows_an_effect_was_on_and_there_or_on_and_not_there() -> None:
    name, event = "postcopy-ram", "postcopy_start"
    for source, said in [
        (side("source", [event], postcopy_start=2), []),
        (side("source", [event]), ["postcopy-ram: no effect seen"]),
        (side("source"), ["postcopy-ram: not checked"]),
        (None, ["postcopy-ram: not checked"]),
    ]:
        assert unchecked(record(name, source=source)) == said
    empty = side("source", [event])
    empty.trace.volume = Volume()  # a log without any event proves no absence
    assert unchecked(record(name, source=empty)) == ["postcopy-ram: not checked"]
    cut = side("source", [event])
    cut.trace.volume.truncated = True
    assert unchecked(record(name, source=cut)) == ["postcopy-ram: not checked"]


def test_what_happens_in_postcopy_only_has_no_effect_without() -> None:
    assert effects(record("release-ram", source=side("source", ["postcopy_start"]))) == {
        "release-ram": 0
    }
    entered = side("source", ["postcopy_start"], postcopy_start=1)
    assert effects(record("release-ram", source=entered)) == {"release-ram": None}


@pytest.mark.parametrize(
    ("capability", "migration", "seen"),
    [
        ("multifd", {"ram": {"multifd-bytes": 5}}, 5),
        ("multifd", {"ram": {}}, 0),
        ("multifd", {}, None),
        ("xbzrle", {"xbzrle-cache": {"pages": 0, "cache-miss": 9}}, 0),
        ("zero-copy-send", {"ram": {"multifd-bytes": 5}}, 5),
        ("zero-copy-send", {"ram": {"multifd-bytes": 5, "dirty-sync-missed-zero-copy": 1}}, 0),
        ("x-ignore-shared", {"ram": {"total": 256 << 20}}, 0),
        ("x-ignore-shared", {"ram": {"total": 1 << 20}}, 255 << 20),
        ("late-block-activate", {"ram": {}}, None),
    ],
)
def test_figures_of_qemu(capability: str, migration: dict[str, object], seen: int | None) -> None:
    source = side("source")
    source.migration = migration
    assert effects(record(capability, source=source)) == {capability: seen}


def test_a_capability_that_is_off_needs_no_effect() -> None:
    off = record("xbzrle")
    off.plan.capabilities["xbzrle"] = False
    assert unchecked(off) == []


def test_every_capability_of_our_builds_is_known(real_builds: list[Build]) -> None:
    known = {name for build in real_builds for name in build.facts.capabilities}
    assert known <= WITNESSES.keys()


def test_each_is_documented() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs/reference/outcome.md").read_text()
    rows = text.partition("| capability | its effect is seen by |")[2].partition("\n\n")[0]
    names = {name for row in rows.splitlines() for name in re.findall("`([^`]+)`", row[:80])}
    assert names >= WITNESSES.keys()
    for witness in WITNESSES.values():
        assert all(f"`{event}`" in rows for event in (witness.events if witness else ()))


def test_no_capability_of_a_newer_qemu_passes_for_checked() -> None:
    assert unchecked(record("telepathy")) == ["telepathy: not checked"]


def test_an_outcome_says_so_itself(tmp_path: object) -> None:
    outcome = Outcome(record("validate-uuid", memory=None), tmp_path)  # type: ignore[arg-type]
    words = "completed; guest and memory not checked; validate-uuid: not checked"
    assert words in repr(outcome)
    assert outcome.effects == {"validate-uuid": None}
