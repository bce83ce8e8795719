"""What keeps a VM with VFIO devices from being migrated is said, in QEMU's own words.

Before `migrate` in `query-migrate`, and again when `migrate` is refused; the guest runs on.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from qmptests.migration import Observer, Phase
from qmptests.outcome import Result
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.words import BLOCKERS, NO_USERFAULTFD
from qmptests.vm import devices

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]


class Reasons(Observer):
    """What the source says of its blockers, before anything is migrated."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Ask."""
        if phase is Phase.READY:
            status = await run.source.execute("query-migrate")
            self.said = status.get("blocked-reasons", [])


def source_alone(wanted: "Migration", expected: Result, **plan: Any) -> "tuple[Outcome, list[str]]":
    """The outcome where the destination has no device, and the blockers that were listed before."""
    plan |= {"expected": expected, "destination_devices": ()}
    reasons = Reasons()
    outcome = replace(wanted, plan=replace(wanted.plan, **plan)).run(reasons)
    assert outcome.as_expected, outcome
    return outcome, reasons.said


def is_said(blocker: str, said: list[str], build: "Build") -> bool:
    """Whether `build` said `blocker`, of any device, in one of the lines."""
    names = [name for device in ("vf0", "vf1") for name in asked.labels(device)]
    return any(BLOCKERS.find(blocker, said, build.facts.version, name) for name in names)


@pytest.mark.parametrize(
    ("blocker", "profiles"),
    [
        ("no migration", ["not-migratable"]),
        ("no answer", ["idle,when=migration-flags+errno=EIO"]),
        pytest.param(
            "no opt-in",
            ["idle,when=precopy-info-v2+errno=EIO"],
            marks=pytest.mark.qemu_needs(version=">=11.1", side="source"),
        ),
        ("switched off", ["idle,enable-migration=off"]),
        ("no dirty tracking", ["no-dirty-tracking"]),
        ("no dirty tracking", ["idle,x-device-dirty-page-tracking=off"]),
        ("several without P2P", ["idle", "no-p2p"]),
    ],
)
def test_a_device_that_is_in_the_way(
    migration: "Migrate", blocker: str, profiles: list[str]
) -> None:
    wanted = migration(vm="none", devices=map(devices.load, profiles))
    outcome, listed = source_alone(wanted, Result.QMP_ERROR)
    assert len(listed) == 1
    assert is_said(blocker, listed, wanted.plan.source), listed
    assert outcome.record.error.endswith(f"migrate: {listed[0]}")
    assert outcome.record.source_ran_on


@pytest.mark.parametrize(
    ("blocker", "profiles"),
    [
        ("no migration", ["not-migratable,enable-migration=on"]),
        ("no answer", ["idle,when=migration-flags+errno=EIO,enable-migration=on"]),
        pytest.param(
            "no opt-in",
            ["idle,when=precopy-info-v2+errno=EIO,enable-migration=on"],
            marks=pytest.mark.qemu_needs(version=">=11.1", side="source"),
        ),
        ("several without P2P", ["idle", "no-p2p,enable-migration=on"]),
    ],
)
def test_a_device_that_is_in_the_way_of_what_must_be_migratable(
    migration: "Migrate", blocker: str, profiles: list[str]
) -> None:
    """With `enable-migration=on` QEMU does not start, for the same reason."""
    wanted = migration(vm="none", devices=map(devices.load, profiles))
    outcome, _ = source_alone(wanted, Result.START_FAILED)
    assert outcome.record.error.startswith("source exited with status 1")
    assert is_said(blocker, [outcome.record.error], wanted.plan.source), outcome


@pytest.mark.parametrize(
    ("blocker", "capability"),
    [("postcopy", "postcopy-ram"), ("background snapshot", "background-snapshot")],
)
def test_a_capability_that_no_device_allows(
    migration: "Migrate", blocker: str, capability: str
) -> None:
    """It is no blocker; `migrate` is refused with it."""
    wanted = migration(vm="none", devices=[devices.load("idle")], capabilities=[capability])
    outcome, listed = source_alone(wanted, Result.QMP_ERROR)
    for refusal in NO_USERFAULTFD:
        if refusal in outcome.record.error:
            pytest.skip(f"this user can't use userfaultfd(2) here: {outcome.record.error}")
    assert listed == []
    assert is_said(blocker, [outcome.record.error], wanted.plan.source), outcome
    assert outcome.record.source_ran_on


def with_viommu(wanted: "Migration") -> "Migration":
    """The same with an IOMMU in the VM, which has to be there before the devices."""
    definition = msgspec.structs.replace(
        wanted.plan.definition, devices=["intel-iommu,caching-mode=on"]
    )
    return replace(wanted, plan=replace(wanted.plan, definition=definition))


@pytest.mark.parametrize(
    "tracking",
    [
        "device",
        pytest.param("iommu", marks=pytest.mark.qemu_needs(version="<11.0", side="source")),
    ],
)
def test_a_viommu_is_in_the_way(migration: "Migrate", vfio: "Vfio", tracking: str) -> None:
    """Since 11.0 only of a device that tracks itself what it writes."""
    device = vfio.emulated("idle", dirty_tracking=tracking)
    wanted = with_viommu(migration(vm="none", devices=[device]))
    _, listed = source_alone(wanted, Result.QMP_ERROR)
    assert is_said("vIOMMU", listed, wanted.plan.source), listed


@pytest.mark.qemu_needs(version=">=11.0", side="source")
@pytest.mark.parametrize("table", ["mapped", "left-out"])
def test_a_viommu_is_no_obstacle_where_the_hosts_iommu_tracks(
    migration: "Migrate", vfio: "Vfio", table: str
) -> None:
    """Whether the BAR's page with the MSI-X table is mapped or not."""
    device = vfio.emulated("idle", dirty_tracking="iommu", msix_mappable=table == "mapped")
    outcome = with_viommu(migration(vm="none", devices=[device])).run()
    bitmaps = asked.calls(outcome).calls("dirty-bitmap")
    if table == "mapped" and any(call.answer.get("errno") == "EINVAL" for call in bitmaps):
        pytest.xfail("QEMU asks beyond the end: docs/findings/vfio-viommu-dirty-bitmap.md")
    assert outcome.completed, outcome


def test_a_device_that_is_no_obstacle_is_not_listed(migration: "Migrate", vfio: "Vfio") -> None:
    """With `enable-migration=on` too, and for one that is the only one without P2P."""
    reasons = Reasons()
    device = vfio.emulated("no-p2p", enable__migration="on")
    outcome = migration(vm="none", devices=[device]).run(reasons)
    assert outcome.completed, outcome
    assert reasons.said == []
