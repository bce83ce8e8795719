"""What was not checked of real migrations, and which capabilities had an effect."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.migration import Observer, Phase, Run, arrival
from qmptests.outcome import Result, summary
from qmptests.vm import load

Migrate = Callable[..., Migration]

DIRTIER = load("dirtier")


def reporting(interval_ms: int, **guest: object) -> object:
    guest = {"kind": "dirtier", "report_interval": interval_ms, **guest}
    return msgspec.structs.replace(DIRTIER, memory="64M", guest=guest)


@pytest.mark.parametrize("interval_ms", [2_000, 60_000])
def test_a_guest_that_seldom_reports_is_checked_all_the_same(
    migration: Migrate, interval_ms: int
) -> None:
    outcome = migration(vm=reporting(interval_ms)).run()
    assert outcome.completed, outcome
    assert outcome.unchecked == []
    assert outcome.record.memory is not None
    assert outcome.record.memory.right


def test_one_that_shows_no_sign_of_life_is_no_success(
    migration: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SHOW_S", 0.0)
    record = migration(vm=reporting(60_000, rate=4096)).run().record
    assert record.result is Result.GUEST_NOT_CHECKED
    assert record.error.startswith("the guest was not seen to run at the destination: it has")


def test_firmware_alone_is_not_checked(migration: Migrate) -> None:
    outcome = migration(vm="none").run()
    assert outcome.completed, outcome
    assert "result       completed; guest and memory not checked" in summary.lines(outcome)


def test_a_guest_that_resets_on_arrival_has_not_gone_on(migration: Migrate) -> None:
    """Also one that says nothing: QEMU's event tells a reset by the guest from ours."""

    class Reset(Observer):
        reason = "guest-reset"

        async def reached(self, phase: Phase, run: Run) -> None:
            if phase is Phase.CHECKED:
                events = run.destination.monitor.events
                events.add("RESET", {"guest": True, "reason": self.reason}, 0.0)

    class Ours(Reset):
        reason = "host-qmp-system-reset"

    assert migration(vm="none").run(Reset()).record.result is Result.GUEST_REBOOTED
    assert migration(vm="none").run(Ours()).completed


class Postcopy(Observer):
    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is Phase.ACTIVE:
            await run.source.execute("migrate-start-postcopy")


SLOW = {"max-bandwidth": 32 << 20, "downtime-limit": 1}


def test_postcopy_that_never_came(migration: Migrate) -> None:
    outcome = migration(capabilities=["postcopy-ram"]).run()
    assert outcome.completed
    assert outcome.unchecked == ["postcopy-ram: no effect seen"]


def test_postcopy_that_came(migration: Migrate) -> None:
    capabilities = ["postcopy-ram", "postcopy-preempt", "return-path", "release-ram"]
    outcome = migration(capabilities=capabilities, parameters=SLOW).run(Postcopy())
    if outcome.record.result is Result.QMP_ERROR and "userfault" in outcome.record.error.lower():
        pytest.skip(f"no postcopy on this machine: {outcome.record.error}")
    assert outcome.completed, outcome
    assert outcome.unchecked == ["release-ram: not checked"]
    assert outcome.effects["postcopy-ram"] == 1


@pytest.mark.parametrize(
    ("capabilities", "unseen"),
    [
        (["multifd", "return-path", "pause-before-switchover", "events"], []),
        (["late-block-activate", "validate-uuid"], ["not checked"] * 2),
        (["auto-converge", "dirty-bitmaps", "x-ignore-shared"], ["no effect seen"] * 3),
    ],
)
def test_the_effect_of_a_capability(
    migration: Migrate, capabilities: list[str], unseen: list[str]
) -> None:
    outcome = migration(capabilities=capabilities, transport="tcp").run()
    assert outcome.completed, outcome
    assert [text.partition(": ")[2] for text in outcome.unchecked] == unseen


def test_pages_that_are_sent_again_compressed(migration: Migrate) -> None:
    slow = {"max-bandwidth": 16 << 20, "downtime-limit": 50}
    outcome = migration(vm=reporting(10), capabilities=["xbzrle"], parameters=slow).run()
    assert outcome.completed, outcome
    assert outcome.unchecked == []


def test_memory_that_is_shared_is_left_out(migration: Migrate, tmp_path: Path) -> None:
    shared = f"memory-backend-file,id=m,size=256M,share=on,mem-path={tmp_path}/ram"
    args = ("-object", shared, "-machine", "memory-backend=m")
    outcome = migration(
        vm="none",
        capabilities=["x-ignore-shared"],
        source_args=args,
        destination_args=args,
    ).run()
    assert outcome.completed, outcome
    assert outcome.unchecked == ["guest and memory not checked"]
