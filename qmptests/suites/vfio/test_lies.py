"""A device that lies: each lie makes the result red, or QEMU has a reason not to mind.

| lie | noticed by | result |
|---|---|---|
| a bit flipped, 4 KiB dropped, doubled or swapped, a wrong magic number, of data that is read in PRE_COPY or STOP_COPY | the check of every byte, after RUNNING | `device-data-wrong` |
| the last 4 KiB of the stream not its end | the destination's device, on leaving RESUMING | the same |
| the stream ends early, or ENOMSG in STOP_COPY | the same | the same |
| the data of another device | `test_realize`: devices that changed places | the same |
| a page that was written to by DMA and not reported | `test_dma`, where the destination's device looks at them all | the same |
| it has nothing for STOP_COPY, says MIG_DATA_SIZE | QEMU can't allocate a buffer of 0 bytes | the migration fails |
| it has 1 TiB | QEMU 11.1, which waits for it to get less; 10.0 does not mind | `timed-out` |
| it loads what it was given, and can't | nobody but the device, which QEMU resets: `test_faults` | `device-data-wrong` |
| more data than it said, in PRE_COPY or STOP_COPY; less; an end of the stream in PRE_COPY | nobody: QEMU reads until there is no more, and sizes only tell it when to switch over | `completed` |

A bit of this table is not the emulated device's to do: a data descriptor of -1, REINIT without an
opt-in, data after the end of the stream.
"""  # noqa: E501

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from qmptests.outcome import Result
from qmptests.suites.vfio.attempts import gives_up_soon

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

MISPLACED = "holds what belongs at page"
LOST = "reset before it ran, all that it was given is lost; "
#: Lies, and how the outcome calls them.
RED = {
    "read+flip": "has one bit flipped",
    "read+flip+in=stop-copy": "has one bit flipped",
    "read+drop": f"page 0 (from byte 0 on) {MISPLACED} 1",
    "read+drop+in=stop-copy": f"page 256 (from byte 1048576 on) {MISPLACED} 257",
    "read+double": f"page 1 (from byte 4096 on) {MISPLACED} 0",
    "read+swap": f"page 0 (from byte 0 on) {MISPLACED} 1",
    "read+magic": "page 0 (from byte 0 on) has a wrong magic number",
    # The second read in STOP_COPY gets the last 4 KiB.
    "read+drop+in=stop-copy+nth=2": f"{LOST}page 271 (from byte 1110016 on) {MISPLACED} 272",
    "read+magic+in=stop-copy+nth=2": f"{LOST}page 271 (from byte 1110016 on) has a wrong magic",
    "read+eof+in=stop-copy": f"{LOST}the stream ends after 1048576 bytes, without its END page",
    "read+eof+in=stop-copy+nth=2": f"{LOST}the stream ends after 1110016 bytes, without its END",
    "read+errno=ENOMSG+in=stop-copy": f"{LOST}the stream ends after 1048576 bytes, without",
}
#: Lies that do no harm, with the bytes that are sent in PRE_COPY and in STOP_COPY.
HARMLESS = {
    "read+grow=1M": (2 << 20, 64 << 10),
    "set-state:stop-copy+grow-stop-copy=1M": (1 << 20, (1 << 20) + (64 << 10)),
    "data-size+announce=4K": (1 << 20, 64 << 10),
    "read+eof+in=pre-copy": (1 << 20, 64 << 10),
    "read+errno=ENOMSG+in=pre-copy": (1 << 20, 64 << 10),
}


@pytest.fixture
def lying(migration: "Migrate", vfio: "Vfio") -> "Callable[..., Migration]":
    """A migration of a device that has this rule, to one that is honest."""

    def make(rule: str, **plan: object) -> "Migration":
        data = {"initial": "1M", "stop_copy": "64K"}
        return migration(
            vm="none",
            devices=[vfio.emulated("idle", **data, when=[rule])],
            destination_devices=[vfio.emulated("idle", **data)],
            capabilities=["return-path"],
            **plan,
        )

    return make


@pytest.mark.parametrize("rule", RED)
def test_a_lie_is_noticed(lying: "Migrate", rule: str) -> None:
    outcome = lying(rule, expected=Result.DEVICE_DATA_WRONG).run()
    assert outcome.as_expected, outcome
    assert outcome.record.error.startswith("device vf0: ")
    assert RED[rule] in outcome.record.error
    assert outcome.record.attempts[0].status == "completed", "QEMU knows nothing of it"


@pytest.mark.parametrize("rule", HARMLESS)
def test_a_lie_does_no_harm(lying: "Migrate", rule: str) -> None:
    """It is all read, and it all arrives."""
    outcome = lying(rule).run()
    assert outcome.completed, outcome
    (device,) = outcome.source.record.devices
    stopped = sum(chunk.bytes for chunk in device.sent if chunk.kind in ("stop-copy", "end"))
    assert (sum(chunk.bytes for chunk in device.sent) - stopped, stopped) == HARMLESS[rule]


def test_a_device_that_says_it_has_nothing_cant_be_migrated(lying: "Migrate") -> None:
    """QEMU asks for a buffer as large as MIG_DATA_SIZE says, and takes NULL for an error."""
    outcome = lying("data-size+announce=0", expected=Result.FAILED_DESTINATION_EXITED).run()
    assert outcome.as_expected, outcome
    assert "Failed to allocate migration data buffer" in outcome.record.error
    assert outcome.record.source_ran_on


def test_a_device_that_says_it_has_far_too_much(lying: "Migrate") -> None:
    """Since 11.1 QEMU never switches over. 10.0 does it without having asked again.

    That is sure with a downtime limit of 0: see
    `test_faults.test_a_device_that_never_tells_its_size_never_arrives`.
    """
    wanted = lying("data-size+announce=1T", parameters={"downtime-limit": 0})
    newer = wanted.plan.source.facts.version >= (11, 1)
    outcome = (gives_up_soon(wanted) if newer else wanted).run()
    assert outcome.record.result == (Result.TIMED_OUT if newer else Result.COMPLETED), outcome
