"""After a migration that did not happen, the outcome says whether the guest runs on."""

from collections.abc import Callable

import msgspec
import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.migration import Kill, Observer, Phase, Run, aftermath
from qmptests.outcome import Result
from qmptests.outcome.record import OutcomeRecord
from qmptests.vm import load

Migrate = Callable[..., Migration]

REFUSED = {"machine": "pc-q35-10.0", "destination_machine": "pc-q35-9.2"}


class Stop(Observer):
    """Stops the source's guest once its migration is over."""

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is Phase.ENDED:
            await run.source.execute("stop")


def runs(record: OutcomeRecord) -> tuple[bool | None, str]:
    assert record.source is not None
    return record.source_ran_on, record.source.runstate


@pytest.mark.parametrize("vm", ["dirtier", "none"])
def test_a_refused_guest_runs_on(migration: Migrate, vm: str) -> None:
    record = migration(vm=vm, **REFUSED).run().record
    assert record.result is Result.FAILED_DESTINATION_EXITED
    assert runs(record) == (True, "running")


def test_it_runs_on_where_the_destination_does_not_even_start(migration: Migrate) -> None:
    outcome = migration(destination_machine="pc-q35-99.9").run()
    assert outcome.record.result is Result.START_FAILED
    assert runs(outcome.record) == (True, "running")
    counter = outcome.source.record.guest.counter
    assert counter is not None
    assert counter > 0


@pytest.mark.parametrize("vm", ["dirtier", "none"])
def test_one_that_is_stopped_does_not(migration: Migrate, vm: str) -> None:
    assert runs(migration(vm=vm, **REFUSED).run(Stop()).record) == (False, "paused")


def test_nor_does_one_that_does_not_count_on_though_qemu_says_running(
    migration: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aftermath, "RUN_ON_S", 0.5)
    silent = msgspec.structs.replace(
        load("dirtier"), guest={"kind": "dirtier", "report_interval": 60_000}
    )
    assert runs(migration(vm=silent, **REFUSED).run().record) == (False, "running")


def test_nor_does_one_whose_qemu_died(migration: Migrate) -> None:
    outcome = migration().run(Kill("source", Phase.ACTIVE))
    assert outcome.record.result is Result.SOURCE_DIED
    assert outcome.record.source_ran_on is False


def test_a_cancelled_one_does(migration: Migrate) -> None:
    assert runs(migration(cancel_at="active").run().record) == (True, "running")


def test_nobody_asks_after_a_migration_that_completed(migration: Migrate) -> None:
    assert runs(migration().run().record) == (None, "postmigrate")


def test_nor_if_there_never_was_a_source(migration: Migrate) -> None:
    outcome = migration(source_args=("-nonsense",)).run()
    assert outcome.record.result is Result.START_FAILED
    assert outcome.record.source_ran_on is None
