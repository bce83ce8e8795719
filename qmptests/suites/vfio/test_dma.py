"""What a device writes to the guest's memory is there on the destination, if anybody tracks it.

Each device looks at its part of guest memory once it runs on the destination: of each page that its
like has written there it knows which of its writes it should be, and every byte.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from qmptests.outcome import Result
from qmptests.suites.vfio import asked

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.outcome import Outcome
    from qmptests.vm.devices import DeviceProfile

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

#: During precopy, after the last sync of the running guest, and when the device alone still runs.
MOMENTS = [
    "read+dma=300+in=pre-copy",
    "set-state:pre-copy-p2p+dma=300",
    "set-state:stop-copy+dma=300",
]
#: How QEMU asks what is dirty, and where it begins to: what was written before goes out first.
REPORT = {"device": "dma-report", "iommu": "dirty-bitmap"}
BEGIN = {"device": "dma-start", "iommu": "set-dirty-tracking:1"}
LIE = "set-state:stop-copy+dma-unreported=1"
#: QEMU's machine with all of its memory in a file that others can map as well.
IN_A_FILE = [
    *("-object", "memory-backend-memfd,id=ram0,size=256M,share=on"),
    *("-machine", "memory-backend=ram0"),
]

TRACKING = pytest.mark.parametrize("tracking", ["device", "iommu"])


def migrate(migration: "Migrate", *devices: "DeviceProfile", expected: Result) -> "Outcome":
    """One migration of a guest whose firmware has come to its end."""
    wanted = migration(vm="dirtier", devices=list(devices), capabilities=["return-path"])
    outcome = replace(wanted, plan=replace(wanted.plan, expected=expected)).run()
    assert outcome.as_expected, outcome
    return outcome


def everything_is_there(outcome: "Outcome", bursts: int) -> None:
    """Each page that the source's devices wrote, in its last version, and no other."""
    sides = outcome.source.record.devices, outcome.destination.record.devices
    for here, there in zip(*sides, strict=True):
        assert here.dma_written is not None
        assert here.dma_written.bursts == bursts
        assert here.dma_written == there.dma_found


@TRACKING
def test_what_is_written_before_during_and_after_the_last_round_arrives(
    migration: "Migrate", vfio: "Vfio", tracking: str
) -> None:
    device = vfio.emulated(initial="64K", dirty_tracking=tracking, when=MOMENTS)
    outcome = migrate(migration, device, expected=Result.COMPLETED)
    everything_is_there(outcome, bursts=len(MOMENTS))
    asked_of = {call.call for call in asked.calls(outcome).calls()}
    assert asked_of & {"dma-report", "dirty-bitmap"} == {REPORT[tracking]}


@TRACKING
def test_a_page_that_is_not_reported_does_not_arrive(
    migration: "Migrate", vfio: "Vfio", tracking: str
) -> None:
    """What stays there is what was written before."""
    rules = [f"{BEGIN[tracking]}+dma=1024", LIE]
    device = vfio.emulated(dirty_tracking=tracking, when=rules)
    outcome = migrate(migration, device, expected=Result.DEVICE_DATA_WRONG)
    assert outcome.record.error.startswith("device vf0: page at iova 0x4")
    assert outcome.record.error.endswith(": burst 2 was written by DMA, burst 1 arrived")


def test_each_device_has_its_own_pages(migration: "Migrate", vfio: "Vfio") -> None:
    """Of several devices only the one that lies has lost anything."""
    right, lies = (vfio.emulated(initial="64K", when=rules) for rules in (MOMENTS, [LIE]))
    everything_is_there(migrate(migration, *[right] * 3, expected=Result.COMPLETED), len(MOMENTS))
    outcome = migrate(migration, right, lies, right, expected=Result.DEVICE_DATA_WRONG)
    assert outcome.record.error.startswith("device vf1: page at iova ")


@TRACKING
def test_memory_in_a_file_is_written_through_the_file(
    migration: "Migrate", vfio: "Vfio", tracking: str
) -> None:
    """QEMU 10.1 and later map the file itself."""
    device = vfio.emulated(initial="64K", dirty_tracking=tracking, when=MOMENTS)
    wanted = migration(vm="dirtier", devices=[device], capabilities=["return-path"])
    definition = msgspec.structs.replace(wanted.plan.definition, args=IN_A_FILE)
    outcome = replace(wanted, plan=replace(wanted.plan, definition=definition)).run()
    assert outcome.completed, outcome
    everything_is_there(outcome, bursts=len(MOMENTS))
    by_file = any(asked.calls(outcome).calls("ioas-map-file"))
    assert by_file == (wanted.plan.source.facts.version >= (10, 1))


def test_without_dirty_tracking_everything_counts_as_dirty(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """So all that is written arrives, if `enable-migration=on` allows the migration at all."""
    device = vfio.emulated("no-dirty-tracking", when=MOMENTS, enable__migration="on")
    wanted = migration(vm="dirtier", devices=[device], capabilities=["return-path"])
    outcome = wanted.run()
    if "was written by DMA, none arrived" in outcome.record.error:
        pytest.xfail("QEMU marks nothing dirty: docs/findings/vfio-no-dirty-tracking.md")
    assert outcome.completed, outcome
    everything_is_there(outcome, bursts=len(MOMENTS))
