"""With `migration-events=on` QEMU tells the states of a device by QMP, between its other events."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qmptests.outcome import Result
from qmptests.outcome.record import EventRecord

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.outcome import Outcome
    from qmptests.outcome.record import SideRecord

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

#: What a device goes through when QEMU quits; RESUME is followed by that of the guest's start.
QUIT = ["SHUTDOWN", "running-p2p", "stop"]
GOES_ON = ["RESUME", "running-p2p", "running"]


def story(side: "SideRecord") -> list[str]:
    """The events in order: a device's by its state, a migration's by its status, others by name."""
    return [word(event) for event in side.events if event.name != "MIGRATION_PASS"]


def word(event: EventRecord) -> str:
    return str(event.data.get("device-state") or event.data.get("status") or event.name)


def run(migration: "Migrate", vfio: "Vfio", expected: Result, **keys: object) -> "Outcome":
    """The outcome of a migration of one device that tells its states."""
    device = vfio.emulated("idle", migration__events="on", **keys)
    wanted = migration(vm="none", devices=[device], capabilities=["return-path"])
    outcome = replace(wanted, plan=replace(wanted.plan, expected=expected)).run()
    assert outcome.as_expected, outcome
    return outcome


def is_newer(outcome: "Outcome", *version: int) -> bool:
    """Whether the source is of this version or a later one."""
    found = outcome.source.record.build.version.split(".")
    return tuple(int(part) for part in found[:2]) >= version


def prepare(outcome: "Outcome") -> list[str]:
    """Since 11.0 it is told that P2P begins, as well as that it is reached."""
    return ["pre-copy-p2p-prepare"] if is_newer(outcome, 11, 0) else []


def failing(outcome: "Outcome") -> list[str]:
    """Since 11.0 a failure has two steps."""
    return ["failing"] if is_newer(outcome, 11, 0) else []


def test_a_migration_that_completes(migration: "Migrate", vfio: "Vfio") -> None:
    """Both sides; PRE_COPY comes before `active`, STOP after STOP_COPY, RUNNING after RESUME."""
    outcome = run(migration, vfio, Result.COMPLETED)
    precopy = ["pre-copy", "active", *prepare(outcome), "pre-copy-p2p", "stop-copy"]
    end = ["STOP", "device", "completed", "stop", "SHUTDOWN"]
    assert story(outcome.source.record) == ["setup", *precopy, *end]
    start = ["setup", "active", "resuming", *GOES_ON, "completed"]
    assert story(outcome.destination.record) == [*start, *QUIT]


def test_a_device_without_p2p(migration: "Migrate", vfio: "Vfio") -> None:
    """Nothing is told of P2P, on either side."""
    outcome = run(migration, vfio, Result.COMPLETED, p2p=False)
    states = [word(e) for e in outcome.source.record.events if e.name == "VFIO_MIGRATION"]
    assert states == ["pre-copy", "stop-copy", "stop"]
    states = [word(e) for e in outcome.destination.record.events if e.name == "VFIO_MIGRATION"]
    assert states == ["resuming", "running", "stop"]


def test_whom_an_event_is_about(migration: "Migrate", vfio: "Vfio") -> None:
    """The device's id, and its path among QEMU's objects; only of those that are to tell."""
    silent, telling = vfio.emulated(), vfio.emulated("idle", migration__events="on")
    outcome = migration(vm="none", devices=[silent, telling]).run()
    assert outcome.completed, outcome
    events = [e for e in outcome.source.record.events if e.name == "VFIO_MIGRATION"]
    assert events
    assert {(e.data["device-id"], e.data["qom-path"]) for e in events} == {
        ("vf1", "/machine/peripheral/vf1")
    }


def test_a_failure_at_switchover(migration: "Migrate", vfio: "Vfio") -> None:
    """A read in STOP_COPY fails: the device runs again, and then the guest does."""
    rules = ["read+errno=EIO+in=stop-copy+side=source"]
    outcome = run(migration, vfio, Result.FAILED_DESTINATION_EXITED, when=rules)
    precopy = ["pre-copy", "active", *prepare(outcome), "pre-copy-p2p", "stop-copy"]
    told = story(outcome.source.record)
    assert told[: len(precopy) + 3] == ["setup", *precopy, "STOP", "device"]
    assert told[-len(QUIT) :] == QUIT
    end = told[len(precopy) + 3 : -len(QUIT)]
    if is_newer(outcome, 11, 0):
        assert end == ["failing", "running", *GOES_ON, "failed"]
    else:
        assert end == ["failed", *GOES_ON]
    assert story(outcome.destination.record)[:3] == ["setup", "active", "resuming"]


def test_a_device_that_is_reset(migration: "Migrate", vfio: "Vfio") -> None:
    """STOP_COPY is refused: RUNNING is told before STOP, as the device is reset to that."""
    rules = ["set-state:stop-copy+errno=EIO+side=source"]
    outcome = run(migration, vfio, Result.FAILED_DESTINATION_EXITED, when=rules)
    precopy = ["pre-copy", "active", *prepare(outcome), "pre-copy-p2p", "running"]
    failed = [*GOES_ON, "failed"] if is_newer(outcome, 11, 0) else ["failed", *GOES_ON]
    end = ["STOP", "device", *failing(outcome), *failed, *QUIT]
    assert story(outcome.source.record) == ["setup", *precopy, *end]
