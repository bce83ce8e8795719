"""Device state through multifd's channels: only what is read in STOP_COPY takes that way."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from qmptests.migration import WhenHeld
from qmptests.outcome import Result
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import SecondAttempt, said

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome
    from qmptests.vm.devices import DeviceProfile

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

#: What a thread of its own does for each device, and what is done without.
THREADS = [
    ("source", "vfio_save_complete_precopy_thread_start"),
    ("source", "vfio_save_complete_precopy_thread_end"),
    ("destination", "vfio_load_bufs_thread_start"),
    ("destination", "vfio_load_bufs_thread_end"),
]
ALONE = "vfio_save_complete_precopy_start"


def device(vfio: "Vfio", transfer: str = "auto", **keys: object) -> "DeviceProfile":
    """All that it has fits into a socket's buffer, or QEMU might hang.

    See docs/findings/vfio-multifd-deadlock.md. It is read in pieces all the same, as large as the
    device says at first that it is as a whole.
    """
    property_ = {"x-migration-multifd-transfer": transfer}
    sizes = {"initial": "64K", "stop_copy": "64K", "announce": "16K"}
    return vfio.emulated("idle", **sizes, **property_, **keys)


def threads(outcome: "Outcome") -> int:
    """How many devices had threads, on both sides; all others went through the main channel."""
    counts = [
        sum(
            1 for _ in (outcome.source if side == "source" else outcome.destination).trace.events(e)
        )
        for side, e in THREADS
    ]
    assert len(set(counts)) == 1, counts
    alone = sum(1 for _ in outcome.source.trace.events(ALONE))
    assert counts[0] + alone == len(outcome.source.record.devices)
    return counts[0]


@pytest.mark.parametrize(
    ("transfer", "multifd"),
    [("on", True), ("off", True), ("auto", True), ("off", False), ("auto", False)],
)
def test_it_goes_through_multifd_if_both_are_on(
    migration: "Migrate", vfio: "Vfio", transfer: str, multifd: bool
) -> None:
    capabilities = {"return-path": True, "multifd": multifd}
    wanted = migration(vm="none", devices=[device(vfio, transfer)], capabilities=capabilities)
    outcome = wanted.run()
    assert outcome.completed, outcome
    assert threads(outcome) == (multifd and transfer != "off")
    headers = outcome.source.record.migration["vfio"]["transferred"] - (128 << 10)
    assert bool(headers) == bool(threads(outcome)), "packets' headers and registers are counted too"


def test_it_cant_be_on_without_multifd(migration: "Migrate", vfio: "Vfio") -> None:
    """The destination says so first: it asks for nothing before."""
    expected = Result.FAILED_DESTINATION_EXITED
    wanted = migration(
        vm="none",
        devices=[device(vfio, "on")],
        capabilities=["return-path"],
        expected=expected,
    )
    outcome = wanted.run()
    assert outcome.as_expected, outcome
    assert "Multifd device transfer requested but unsupported in the current config" in said(
        outcome, "destination"
    )


def test_older_machine_types_do_without(migration: "Migrate", vfio: "Vfio") -> None:
    outcome = migration(
        vm="none",
        machine="pc-q35-9.2",
        devices=[device(vfio)],
        capabilities=["return-path", "multifd"],
    ).run()
    assert outcome.completed, outcome
    assert threads(outcome) == 0


def test_each_device_has_a_thread_of_its_own(migration: "Migrate", vfio: "Vfio") -> None:
    outcome = migration(
        vm="none",
        devices=[*[device(vfio)] * 3, device(vfio, "off")],
        capabilities=["return-path", "multifd"],
        parameters={"multifd-channels": 4},
    ).run()
    assert outcome.completed, outcome
    assert threads(outcome) == 3


async def loading(run: "Run") -> None:
    """The destination's thread has begun."""
    await run.destination.trace.wait_for_count("vfio_load_bufs_thread_start", 1, timeout=30)


def test_the_destination_must_expect_it_too(migration: "Migrate", vfio: "Vfio") -> None:
    """On at the source alone, a destination may hang for ever: docs/findings/vfio-faults.md.

    Its thread must have begun before the load fails: docs/findings/vfio-crashes.md.
    """
    held = WhenHeld("source", loading)
    outcome = migration(
        vm="none",
        devices=[device(vfio, "off", when=["read+hold+in=stop-copy"])],
        destination_devices=[device(vfio, "on")],
        capabilities=["return-path", "multifd"],
        expected=Result.FAILED_DESTINATION_EXITED,
    ).run(held)
    assert outcome.as_expected, outcome
    words = "got DEV_CONFIG_STATE in main migration channel but doing multifd transfer"
    assert words in said(outcome, "destination")
    assert outcome.record.source_ran_on
    assert held.count == 1


@pytest.mark.parametrize("nth", [2, 3])
def test_a_thread_that_cant_read_fails_the_migration(
    migration: "Migrate", vfio: "Vfio", nth: int
) -> None:
    """The first is held until the destination's has begun: docs/findings/vfio-crashes.md."""
    held, second = WhenHeld("source", loading), SecondAttempt()
    rules = ["read+hold+in=stop-copy", f"read+errno=EIO+in=stop-copy+nth={nth}"]
    outcome = migration(
        devices=[device(vfio, when=rules)],
        capabilities=["return-path", "multifd"],
        retries=1,
    ).run(held, second)
    assert outcome.completed, outcome
    assert (held.count, second.count) == (1, 1)


def test_a_device_that_did_not_stop_hangs_the_migration(migration: "Migrate", vfio: "Vfio") -> None:
    """It was reset and asked for STOP_COPY once more, by a thread whose failure nobody hears of.

    The guest is stopped meanwhile.
    """
    outcome = migration(
        devices=[device(vfio, when=["set-state:stop-copy+errno=EIO"])],
        capabilities=["return-path", "multifd"],
        expected=Result.TIMED_OUT,
        timeout_s=8.0,
    ).run()
    assert outcome.as_expected, outcome
    assert outcome.record.source_ran_on is False
    assert asked.states(outcome)[2:5] == ["pre-copy", "pre-copy-p2p", "stop-copy"]
    assert outcome.source.trace.count("vfio_save_complete_precopy_thread_end") == 1


def test_a_thread_that_cant_write_may_lose_the_guest(migration: "Migrate", vfio: "Vfio") -> None:
    """The source completes before the destination, whose thread failed, gives up and exits."""
    rules = [f"write+{what}+after_bytes=80K" for what in ("delay=100ms", "errno=EIO")]
    outcome = migration(
        vm="none",
        devices=[device(vfio)],
        destination_devices=[device(vfio, when=rules)],
        capabilities=["return-path", "multifd"],
        expected=Result.DESTINATION_DIED,
    ).run()
    assert outcome.as_expected, outcome
    assert re.search(r"writing state buffer \d+ failed: 5", said(outcome, "destination"))
    assert outcome.source.record.runstate == "postmigrate"


@pytest.mark.parametrize("multifd", [True, False], ids=["multifd", "no-multifd"])
def test_the_switchover_waits_for_the_acknowledgement(
    migration: "Migrate", vfio: "Vfio", multifd: bool
) -> None:
    """All initial data is at the destination by then."""
    capabilities = {"return-path": True, "switchover-ack": True, "multifd": multifd}
    outcome = migration(vm="none", devices=[device(vfio)] * 2, capabilities=capabilities).run()
    assert outcome.completed, outcome
    trace = outcome.source.trace
    acknowledged = trace.last("source_return_path_thread_switchover_acked")
    stopping = trace.first("vmstate_downtime_checkpoint", checkpoint="src-downtime-start")
    assert acknowledged
    assert stopping
    assert (acknowledged.time_us or 0) <= (stopping.time_us or 0)
