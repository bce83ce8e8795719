"""Any two builds migrate to each other, whichever mechanism of acks their machine type has.

| rows | |
|---|---|
| builds | each pair in both directions, and each with itself |
| machine type | the newest that both know with the legacy mechanism, and with the new one |
| devices | none, one, four |
| they have | precopy; precopy and a REINIT between ack and switchover; no precopy |

A source that does not know REINIT (10.0) is told nothing of it: it has dirty data in its stead.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from qmptests.outcome import Result
from qmptests.suites.compat import words
from qmptests.suites.switchover_ack import machines, observed
from qmptests.suites.switchover_ack.counted import CAPABILITIES, assert_acked
from qmptests.suites.switchover_ack.onward import Onward
from qmptests.suites.switchover_ack.reinit import ReinitAfterAck, assert_reinits
from qmptests.suites.vfio.words import BLOCKERS

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.outcome import Outcome
    from qmptests.vm.devices import DeviceProfile

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

TIMEOUT_S = 20.0


def devices(vfio: "Vfio", count: int, have: str) -> "list[DeviceProfile]":
    """So many, with what they are to `have`."""
    keys = {"precopy": False} if have == "no-precopy" else {"initial": "1M"}
    return [vfio.emulated("idle", stop_copy="64K", **keys)] * count


def assert_arrived(outcome: "Outcome", count: int) -> None:
    """The guest runs at the destination alone, with its memory, and the devices with their data."""
    assert outcome.completed, outcome
    arrivals = [device.arrival for device in outcome.destination.record.devices]
    assert [arrival and arrival.problem for arrival in arrivals] == [""] * count


ROWS = [
    pytest.param(count, have, id=f"{count}-device{'s' if count != 1 else ''}{have and '-'}{have}")
    for count, have in [
        (0, ""),
        *((count, have) for count in (1, 4) for have in ("", "reinit", "no-precopy")),
    ]
]


def assert_row(
    migration: "Migrate", vfio: "Vfio", builds: "Sequence[Build]", kind: str, count: int, have: str
) -> None:
    """That it migrates with all its data, and that the mechanism is that of the machine type."""
    names = [f"vf{number}" for number in range(count)] if have == "reinit" else []
    reinit = ReinitAfterAck(*names)
    outcome = migration(
        vm="dirtier" if count > 1 else "none",
        machine=machines.TYPES[kind](*builds),
        devices=devices(vfio, count, have),
        capabilities=CAPABILITIES,
        timeout_s=TIMEOUT_S,
    ).run(*([reinit] if names else []))
    assert_arrived(outcome, count)
    asked = 0 if have == "no-precopy" else count
    assert assert_acked(outcome, asked, reinits=len(names)) == kind
    if names:
        assert_reinits(outcome, reinit)


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize(("count", "have"), ROWS)
@machines.of_each_kind
def test_between_builds(
    migration: "Migrate",
    vfio: "Vfio",
    source_build: "Build",
    destination_build: "Build",
    kind: str,
    count: int,
    have: str,
) -> None:
    """Old to new and new to old, as long as both know the machine type."""
    assert_row(migration, vfio, [source_build, destination_build], kind, count, have)


@pytest.mark.parametrize(("count", "have"), ROWS)
@machines.of_each_kind
def test_of_one_build(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str, count: int, have: str
) -> None:
    """A build that knows both mechanisms takes that of the machine type."""
    assert_row(migration, vfio, [same_build], kind, count, have)


@machines.of_each_kind
@pytest.mark.parametrize("reinit", [False, True], ids=["no-reinit", "reinit"])
def test_different_devices_together(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str, reinit: bool
) -> None:
    """Those without REINIT have one ack, those without precopy none; the others wait for all."""
    after = ReinitAfterAck("vf0")
    outcome = migration(
        vm="none",
        machine=machines.TYPES[kind](same_build),
        devices=mixture(vfio),
        capabilities=CAPABILITIES,
        timeout_s=TIMEOUT_S,
    ).run(*([after] if reinit else []))
    assert_arrived(outcome, 3)
    assert assert_acked(outcome, 2, reinits=int(reinit)) == kind
    if reinit:
        assert_reinits(outcome, after)


@pytest.mark.usefixtures("cell")
def test_different_devices_together_between_builds(migration: "Migrate", vfio: "Vfio") -> None:
    outcome = migration(vm="none", devices=mixture(vfio), capabilities=CAPABILITIES).run()
    assert_arrived(outcome, 3)
    assert_acked(outcome, 2)


def mixture(vfio: "Vfio") -> "list[DeviceProfile]":
    """With REINIT, without it, and without precopy."""
    sizes = {"initial": "1M", "stop_copy": "64K"}
    return [
        vfio.emulated("idle", **sizes),
        vfio.emulated("no-reinit", **sizes, late=0),
        vfio.emulated("no-precopy", stop_copy="64K"),
    ]


@machines.of_each_kind
def test_a_device_without_p2p_is_acked_when_it_is_alone(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str
) -> None:
    device = vfio.emulated("no-p2p", initial="1M", stop_copy="64K")
    machine = machines.TYPES[kind](same_build)
    outcome = migration(
        vm="none", machine=machine, devices=[device], capabilities=CAPABILITIES
    ).run()
    assert_arrived(outcome, 1)
    assert assert_acked(outcome, 1) == kind


def test_a_device_without_p2p_is_refused_among_others(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Whatever is said of acks: QEMU stops them together, and can't do so with this one."""
    outcome = migration(
        vm="none",
        devices=[*mixture(vfio), vfio.emulated("no-p2p")],
        capabilities=CAPABILITIES,
        expected=Result.QMP_ERROR,
    ).run()
    assert outcome.as_expected, outcome
    version = same_build.facts.version
    assert BLOCKERS.find("several without P2P", [outcome.record.error], version), outcome
    assert outcome.record.source_ran_on


@pytest.mark.parametrize("older", ["source", "destination"])
def test_a_machine_type_with_the_other_mechanism_is_refused(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", older: str
) -> None:
    """So that a machine type alone, which goes with the VM, never mixes the two mechanisms."""
    new, legacy = machines.new(same_build), machines.legacy(same_build)
    ours, theirs = (legacy, new) if older == "source" else (new, legacy)
    outcome = migration(
        vm="none",
        machine=ours,
        destination_machine=theirs,
        devices=devices(vfio, 1, ""),
        capabilities=CAPABILITIES,
        expected=Result.FAILED_DESTINATION_EXITED,
    ).run()
    assert outcome.as_expected, outcome
    said = outcome.destination.record.stderr_tail
    version = same_build.facts.version
    assert words.find("another machine type", said, version, ours, theirs), said
    assert observed.on_the_wire(outcome) == 0
    assert outcome.record.source_ran_on


@pytest.mark.usefixtures("cell")
def test_there_and_back_again(migration: "Migrate", vfio: "Vfio") -> None:
    assert_goes_on(migration(devices=reiniting(vfio), capabilities=CAPABILITIES))


@machines.of_each_kind
def test_on_to_a_third(migration: "Migrate", vfio: "Vfio", same_build: "Build", kind: str) -> None:
    machine = machines.TYPES[kind](same_build)
    wanted = migration(machine=machine, devices=reiniting(vfio), capabilities=CAPABILITIES)
    assert assert_goes_on(wanted) == kind


def reiniting(vfio: "Vfio") -> "list[DeviceProfile]":
    """Two, which REINIT on the way on only."""
    rule = "read+reinit=1M+side=destination"
    return [vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])] * 2


def assert_goes_on(wanted: "Migration") -> str:
    """That a QEMU which was a destination is a source as any other; returns the mechanism.

    Nothing is left of the first migration's acks, neither counted nor owed.
    """
    onward = Onward()
    outcome = wanted.run(onward)
    assert_arrived(outcome, 2)
    mechanism = assert_acked(outcome, 2)
    here = outcome.destination
    reinits = 2 * observed.opted_in(here.trace)
    acks = 1 if mechanism == observed.LEGACY else 2 + reinits
    assert onward.on_the_wire(outcome) == here.trace.count(observed.ACKED) == acks
    assert onward.memory
    assert onward.memory.right
    sent = [device.sent for device in here.record.devices]
    assert [device.arrival and device.arrival.problem for device in onward.devices] == ["", ""]
    assert [device.arrival and device.arrival.chunks for device in onward.devices] == sent
    return mechanism
