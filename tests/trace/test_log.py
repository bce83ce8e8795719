"""A log answers what happened, and says no more than it can prove."""

from pathlib import Path
from typing import Any

import pytest

from qmptests.errors import InputError
from qmptests.trace.log import NotConfirmed, NoWitness, TraceLog
from qmptests.trace.volume import PERTURBING_LINES, Volume, is_perturbing

LOGS = Path(__file__).parent / "logs"
ENABLED = ("migrate_set_state", "migrate_send_rp_message", "savevm_send_switchover_start")


@pytest.fixture
def source() -> TraceLog:
    return TraceLog(LOGS / "11.1-to-11.1" / "source.trace.log", enabled=ENABLED)


def test_it_counts_events_and_arguments(source: TraceLog) -> None:
    assert source.count("migrate_set_state") == 4
    assert source.count("migrate_set_state", new_state="active") == 1
    spelt: dict[str, Any] = {"new state": "active"}
    assert source.count("migrate_set_state", **spelt) == 1
    assert source.count("migrate_set_state", new_state=lambda state: state != "active") == 3


def test_first_and_last_follow_the_logs_order(source: TraceLog) -> None:
    first, last = source.first("migrate_set_state"), source.last("migrate_set_state")
    assert first is not None
    assert last is not None
    assert (first.args["new_state"], last.args["new_state"]) == ("setup", "completed")
    assert source.count("migrate_set_state", after=first, before=last) == 2
    assert source.first("migrate_set_state", new_state="failed") is None


def test_an_event_that_was_not_confirmed_is_no_zero(source: TraceLog) -> None:
    with pytest.raises(NotConfirmed, match="loadvm_approve_switchover was not confirmed enabled"):
        source.count("loadvm_approve_switchover")
    with pytest.raises(NotConfirmed):
        source.never("loadvm_approve_switchover", witness="migrate_set_state")
    source.confirm(["loadvm_approve_switchover"])
    assert source.count("loadvm_approve_switchover") == 0


def test_an_event_the_build_lacks_is_said_to_be_so() -> None:
    log = TraceLog(LOGS / "11.1-to-11.1" / "source.trace.log", known={"migrate_set_state"})
    with pytest.raises(NotConfirmed, match="this build has no such event"):
        log.count("migrate_pending_exact")


def test_an_argument_the_event_lacks_is_no_zero(source: TraceLog) -> None:
    with pytest.raises(InputError, match=r"no argument state in .*; it has new_state"):
        source.count("migrate_set_state", state="active")


def test_never_needs_a_witness_that_happened(source: TraceLog) -> None:
    assert source.never("migrate_send_rp_message", witness="migrate_set_state")
    with pytest.raises(NoWitness, match="its witness migrate_send_rp_message did not happen"):
        source.never("migrate_set_state", witness="migrate_send_rp_message", new_state="failed")
    with pytest.raises(InputError, match="its own witness"):
        source.never("migrate_set_state", witness="migrate_set_state")


def test_never_holds_between_two_events(source: TraceLog) -> None:
    source.confirm(["vmstate_downtime_checkpoint"])
    stopped = source.first("vmstate_downtime_checkpoint", checkpoint="src-vm-stopped")
    active = source.first("migrate_set_state", new_state="active")
    assert source.never(
        "migrate_set_state", witness="vmstate_downtime_checkpoint", after=active, before=stopped
    )
    assert not source.never(
        "migrate_set_state", witness="vmstate_downtime_checkpoint", after=active
    )


def test_a_growing_log_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("migrate_set_state new state setup\nmigrate_set_st")
    log = TraceLog(path, enabled=ENABLED)
    assert log.count("migrate_set_state") == 1
    assert log.volume.truncated
    with path.open("a") as file:
        file.write("ate new state active\n")
    assert log.count("migrate_set_state", new_state="active") == 1
    assert [str(entry) for entry in log.tail] == [
        "migrate_set_state new state setup",
        "migrate_set_state new state active",
    ]
    path.write_text("")
    with pytest.raises(InputError, match="shrank from 69 to 0 bytes"):
        log.refresh()


def test_no_log_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't read the trace log"):
        TraceLog(tmp_path / "none", enabled=ENABLED).count("migrate_set_state")


def test_volume_accounts_for_every_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1@10.000000:a_b 1\nqemu: oops\n1@10.050000:a_b 2\n1@11.000000:c_d 3\nc_")
    assert TraceLog(path).volume == Volume(
        lines=4,
        bytes=path.stat().st_size,
        messages=1,
        truncated=True,
        first_us=10_000_000,
        last_us=11_000_000,
        peak_lines=2,
        events={"a_b": 2, "c_d": 1},
    )
    assert TraceLog(path).volume.events_per_second == 3.0


def test_volume_of_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    volume = TraceLog(tmp_path / "log").volume
    assert volume == Volume()
    assert volume.events_per_second is None
    assert not is_perturbing(volume)


def test_floods_perturb_and_the_default_set_does_not(source: TraceLog) -> None:
    assert not is_perturbing(source.volume)
    assert is_perturbing(Volume(peak_lines=PERTURBING_LINES + 1))
    assert is_perturbing(Volume(events={"ram_load_loop": PERTURBING_LINES + 1}))
    assert not is_perturbing(Volume(events={"migrate_set_state": PERTURBING_LINES + 1}))


def test_a_log_of_many_events_costs_no_memory(tmp_path: Path) -> None:
    import tracemalloc  # noqa: PLC0415 - only this test measures

    path = tmp_path / "log"
    with path.open("w") as file:
        for index in range(60_000):
            file.write(
                f"8131@1795375187.{index:06}:migration_transferred_bytes qemu_file {index}\n"
            )
    log = TraceLog(path, enabled=["migration_transferred_bytes"])
    tracemalloc.start()
    try:
        assert log.count("migration_transferred_bytes") == 60_000
        assert sum(1 for _ in log.events("migration_transferred_bytes")) == 60_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
