"""Whom QEMU asks which pages a device has written: the device, the host's IOMMU, or nobody."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.outcome import Result
from qmptests.suites.vfio import asked

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.vfio.calls_read import Call, CallLog

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

DEVICE = ["dma-start", "dma-report"]
IOMMU = ["set-dirty-tracking", "dirty-bitmap"]
#: What a build says that has nobody to ask, and goes on as it was told to.
NOBODY = "VFIO device doesn't support device and IOMMU dirty tracking"


def about_pages(log: "CallLog") -> list[str]:
    """The calls about written pages, each name once, in the order of the first."""
    names = (*DEVICE, *IOMMU, "dma-stop")
    return list(dict.fromkeys(call.call for call in log.calls() if call.call in names))


@pytest.mark.parametrize(
    ("keys", "calls"),
    [
        pytest.param({}, DEVICE, id="device"),
        pytest.param({"dirty_tracking": "iommu"}, IOMMU, id="iommu"),
        pytest.param(
            {"dirty_tracking": "iommu", "x__device__dirty__page__tracking": "off"},
            IOMMU,
            id="iommu-device-off",
        ),
        pytest.param({"dirty_tracking": "none", "enable__migration": "on"}, [], id="none"),
        pytest.param(
            {"x__device__dirty__page__tracking": "off", "enable__migration": "on"},
            [],
            id="device-off",
        ),
    ],
)
def test_who_is_asked(
    migration: "Migrate", vfio: "Vfio", keys: dict[str, Any], calls: list[str]
) -> None:
    """At the source, and nobody at the destination; if there is nobody to ask, QEMU says so."""
    outcome = migration(devices=[vfio.emulated(**keys)]).run()
    assert outcome.completed, outcome
    assert about_pages(asked.calls(outcome)) == calls
    assert about_pages(asked.calls(outcome, "destination")) == []
    said = [line for line in outcome.source.record.stderr_tail if NOBODY in line]
    assert bool(said) == (not calls)


def test_several_devices_track_each_their_own(migration: "Migrate", vfio: "Vfio") -> None:
    """Each is asked, from before its precopy to after its stop; none is told to stop tracking."""
    outcome = migration(devices=[vfio.emulated()] * 2).run()
    assert outcome.completed, outcome
    log = asked.calls(outcome)
    for device in ("vf0", "vf1"):
        (start,) = log.calls("dma-start", device)
        reports = list(log.calls("dma-report", device))
        assert start.at < reports[0].at < state(log, device, "pre-copy").at
        assert max(call.until or call.at for call in reports) > state(log, device, "stop-copy").at
    assert "dma-stop" not in about_pages(log)


def state(log: "CallLog", device: str, word: str) -> "Call":
    """The first call that put the device in that state."""
    return next(call for call in log.calls("set-state", device) if call.with_["state"] == word)


def test_no_pages_are_asked_for_during_precopy_if_so_wished(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """With x-pre-copy-dirty-page-tracking=off the device tracks, but is asked at its stop only."""
    device = vfio.emulated(x__pre__copy__dirty__page__tracking="off")
    outcome = migration(devices=[device]).run()
    assert outcome.completed, outcome
    log = asked.calls(outcome)
    assert about_pages(log) == DEVICE
    stopped = state(log, "vf0", "stop-copy").at
    assert all(call.at > stopped for call in log.calls("dma-report"))


def test_tracking_stops_when_the_migration_is_cancelled(migration: "Migrate", vfio: "Vfio") -> None:
    """And the guest, with its device, goes on at the source."""
    wanted = migration(
        devices=[vfio.emulated("idle", initial="64M")],
        cancel_at="active",
        expected=Result.CANCELLED,
    )
    outcome = wanted.run()
    assert outcome.as_expected, outcome
    log = asked.calls(outcome)
    assert about_pages(log) == [*DEVICE, "dma-stop"]
    assert outcome.record.source_ran_on


def test_which_memory_is_asked_about(migration: "Migrate", vfio: "Vfio") -> None:
    """All that the device can reach, up to 10.x; since 11.0 only what it can write to.

    Firmware is read-only: that at the end of the first 4 GiB is not asked about.
    """
    wanted = migration(devices=[vfio.emulated()])
    outcome = wanted.run()
    assert outcome.completed, outcome
    log = asked.calls(outcome)
    (start,) = log.calls("dma-start")
    mapped = mapped_at(log, start.at)
    reported = {place(call) for call in log.calls("dma-report")}
    # The guest's own memory, without what is below 1 MiB and in part firmware.
    assert (1 << 20, wanted.plan.definition.memory_bytes - (1 << 20)) in reported
    if wanted.plan.source.facts.version >= (11, 0):
        assert reported < mapped
        assert max(iova for iova, _ in reported) < max(iova for iova, _ in mapped)
    else:
        assert reported == mapped


def place(call: "Call") -> tuple[int, int]:
    """What a call is about: an IOVA and a length in bytes."""
    return call.with_["iova"], call.with_["length"]


def mapped_at(log: "CallLog", at: int) -> set[tuple[int, int]]:
    """What was mapped for the devices at that time."""
    found: set[tuple[int, int]] = set()
    for call in log.calls():
        if call.at < at and call.call in ("ioas-map", "ioas-map-file"):
            found.add(place(call))
        elif call.at < at and call.call == "ioas-unmap":
            found.remove(place(call))
    return found
