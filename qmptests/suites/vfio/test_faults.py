"""A call that fails, in each phase and on each side: what QEMU makes of it.

| fails | QEMU 10.0 and 11.1 |
|---|---|
| all that belongs to saving, but what there is to send | fails cleanly |
| `precopy-info`, `data-size` | goes on; 11.1 warns, 10.0 says nothing |
| entering RESUMING, writing | the destination exits, the source runs on |
| leaving RESUMING, or RUNNING_P2P after it | completes, with a device that was reset |
| the source's STOP once all is over | the device is reset, and runs at the source |
| the reset after any of these | QEMU aborts |

docs/findings/vfio-faults.md has QEMU's words, and what of this is wrong.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from qmptests.outcome import Result
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import SecondAttempt, gave_up, gives_up_soon, said
from qmptests.suites.words import Seen, Words
from qmptests.vm.dialect import Version

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

#: `{}` is how QEMU calls the device.
SET = "{}: Failed setting device state to "
RESET = "Recover state is ERROR. Resetting device: Input/output error"


def always(text: str) -> list[Seen]:
    return [Seen((10, 0), (11, 1), text)]


def in_switchover(text: str) -> list[Seen]:
    """Since 11.1 the reason is what was being done when it happened, with its cause."""
    newer = f"Failed to save iterable device state: {text}"
    return [Seen((10, 0), (10, 0), text), Seen((11, 1), (11, 1), newer)]


#: What fails at the source, and what it says is the reason.
SOURCE = Words(
    {
        "dma-start+errno=EIO": always(
            "Could not start dirty page tracking - {}: Failed to start DMA logging: Input/output"
        ),
        "dma-report+errno=EIO+in=running": always("ram_save_setup failed: Input/output error"),
        "set-state:pre-copy+errno=EIO": always(
            f"{SET}PRE_COPY. Setting device in recover state RUNNING: Input/output error"
        ),
        "read+errno=EIO+in=pre-copy": always("Channel error: Input/output error"),
        "set-state:pre-copy-p2p+errno=EIO": in_switchover(f"{SET}PRE_COPY_P2P. {RESET}"),
        "set-state:stop-copy+errno=EIO": in_switchover(f"{SET}STOP_COPY. {RESET}"),
        "set-state:stop-copy+error": in_switchover(f"{SET}STOP_COPY. {RESET}"),
        "dma-report+errno=EIO+in=stop-copy": [
            Seen((10, 0), (10, 0), "Channel error: Input/output error"),
            Seen(
                (11, 1),
                (11, 1),
                "Failed to save iterable device state: {}: Failed to get DMA logging report, ",
            ),
        ],
        "read+errno=EIO+in=stop-copy": in_switchover("Channel error: Input/output error"),
        "no precopy": in_switchover("Channel error: Input/output error"),
    }
)
CANT_WRITE = [
    Seen((10, 0), (10, 0), "(0000:00:10.0/vfio)"),
    Seen((11, 1), (11, 1), "Input/output error: Failed to load vmstate version_id: 1, ret: -5"),
]
#: What fails at the destination, and what it says. The source mostly knows of a broken pipe only.
DESTINATION = Words(
    {
        "set-state:resuming+errno=EIO": always(
            f"Load state of device 0000:00:10.0/vfio failed: {SET}RESUMING. "
            "Setting device in recover state RUNNING: Input/output error"
        ),
        "write+errno=EIO": CANT_WRITE,
        "write+errno=EIO+after_bytes=1M": CANT_WRITE,
    }
)


def says(table: Words, rule: str, text: str, version: Version) -> bool:
    """Whether that is what it says if this fails."""
    return any(table.find(rule, [text], version, label) for label in asked.labels("vf0"))


@pytest.mark.parametrize("rule", [rule for rule in SOURCE.table if "+" in rule])
def test_the_source_fails_and_runs_on_and_can_try_again(
    migration: "Migrate", vfio: "Vfio", rule: str
) -> None:
    device = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])
    wanted = migration(devices=[device], capabilities=["return-path"], retries=1)
    second = SecondAttempt()
    outcome = wanted.run(second)
    assert outcome.completed, outcome
    assert second.count == 1
    first = outcome.record.attempts[0]
    assert first.status == "failed"
    assert says(SOURCE, rule, first.error, wanted.plan.source.facts.version), first.error
    assert gave_up(outcome.record.destinations[0])


@pytest.mark.parametrize("rule", DESTINATION.table)
def test_the_destination_fails_and_the_source_can_try_another(
    migration: "Migrate", vfio: "Vfio", rule: str
) -> None:
    device = vfio.emulated("idle", initial="1M", stop_copy="64K")
    there = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])
    wanted = migration(
        devices=[device],
        destination_devices=[there],
        capabilities=["return-path"],
        retries=1,
    )
    second = SecondAttempt()
    outcome = wanted.run(second)
    assert outcome.completed, outcome
    assert second.count == 1
    assert outcome.record.attempts[0].status == "failed"
    words = said(outcome, "destination")
    assert says(DESTINATION, rule, words, wanted.plan.destination.facts.version), words
    assert gave_up(outcome.record.destinations[0])


def test_a_device_without_precopy_stops_and_runs_on(migration: "Migrate", vfio: "Vfio") -> None:
    """It enters STOP_COPY only once its VM has stopped, and is not reset if it can't."""
    device = vfio.emulated("no-precopy", when=["set-state:stop-copy+errno=EIO"])
    wanted = migration(devices=[device], capabilities=["return-path"], retries=1)
    second = SecondAttempt()
    outcome = wanted.run(second)
    assert outcome.completed, outcome
    assert second.count == 1
    first = outcome.record.attempts[0]
    version = wanted.plan.source.facts.version
    assert says(SOURCE, "no precopy", first.error, version), first.error
    assert "Failed setting device state to STOP_COPY. Setting device in recover state STOP" in said(
        outcome
    )
    assert sum(call.times for call in asked.calls(outcome).calls("reset", "vf0")) == 1


def test_all_devices_run_on_if_one_fails(migration: "Migrate", vfio: "Vfio") -> None:
    """Of three that are to enter STOP_COPY the second fails; that one alone is reset."""
    devices = [vfio.emulated("idle", initial="64K") for _ in range(3)]
    devices[1] = vfio.emulated("idle", initial="64K", when=["set-state:stop-copy+errno=EIO"])
    second = SecondAttempt()
    outcome = migration(devices=devices, capabilities=["return-path"], retries=1).run(second)
    assert outcome.completed, outcome
    assert second.count == 1
    log = asked.calls(outcome)
    assert [sum(1 for _ in log.calls("reset", f"vf{n}")) for n in range(3)] == [1, 2, 1]


@pytest.mark.parametrize("rule", ["precopy-info+errno=EIO+times=0", "data-size+errno=EIO"])
def test_a_size_that_a_device_cant_tell_is_of_no_concern(
    migration: "Migrate", vfio: "Vfio", rule: str
) -> None:
    """The migration completes all the same; since 11.1 with a warning."""
    device = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])
    there = vfio.emulated("idle", initial="1M", stop_copy="64K")
    wanted = migration(
        vm="none",
        devices=[device],
        destination_devices=[there],
        capabilities=["return-path"],
    )
    outcome = wanted.run()
    assert outcome.completed, outcome
    warned = re.search(r"warning: VFIO device vf0 ioctl\(.*\).* failed \(-5\)", said(outcome))
    assert bool(warned) == (wanted.plan.source.facts.version >= (11, 1))


def test_a_device_that_never_tells_its_size_never_arrives(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """Since 11.1 it is taken to have so much that no downtime is long enough; 10.0 doesn't care.

    It would if it came to ask for sizes again, which it does when few bytes are left. With a
    downtime limit of 0 it goes on until none are.
    """
    rule = "data-size+errno=EIO+times=0"
    wanted = migration(
        vm="none",
        devices=[vfio.emulated("idle", initial="1M", when=[rule])],
        destination_devices=[vfio.emulated("idle", initial="1M")],
        capabilities=["return-path"],
        parameters={"downtime-limit": 0},
    )
    newer = wanted.plan.source.facts.version >= (11, 1)
    outcome = (gives_up_soon(wanted) if newer else wanted).run()
    assert outcome.record.result == (Result.TIMED_OUT if newer else Result.COMPLETED), outcome
    assert outcome.record.source_ran_on or not newer


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ("set-state:running-p2p+errno=EIO", "RUNNING_P2P"),
        ("set-state:running-p2p+error", "RUNNING_P2P"),
        ("set-state:running+errno=EIO", "RUNNING"),
    ],
)
def test_a_device_that_refuses_what_it_was_given_is_reset_and_nobody_knows(
    migration: "Migrate", vfio: "Vfio", rule: str, state: str
) -> None:
    """QEMU completes the migration. The guest runs on with a device that has forgotten it."""
    device = vfio.emulated("idle", initial="1M", stop_copy="64K")
    there = vfio.emulated("idle", initial="1M", stop_copy="64K", when=[rule])
    outcome = migration(
        vm="none",
        devices=[device],
        destination_devices=[there],
        capabilities=["return-path"],
        expected=Result.DEVICE_DATA_WRONG,
    ).run()
    _refused(outcome, state, "reset before it ran, all that it was given is lost")


def test_a_device_that_finds_a_wrong_magic_number_is_reset_and_nobody_knows(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    device = vfio.emulated("idle", stop_copy="4K", when=["read+magic+in=stop-copy"])
    outcome = migration(
        vm="none",
        devices=[device],
        destination_devices=[vfio.emulated("idle")],
        capabilities=["return-path"],
        expected=Result.DEVICE_DATA_WRONG,
    ).run()
    _refused(outcome, "RUNNING_P2P", "has a wrong magic number", "Invalid argument")


def test_a_device_that_refuses_wrong_data_at_once_fails_the_migration(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """As mlx5 does; then the destination ends, and the guest runs on at the source."""
    outcome = migration(
        vm="none",
        devices=[vfio.emulated("idle", stop_copy="64K", when=["read+flip+in=stop-copy"])],
        destination_devices=[vfio.emulated("idle", stop_copy="64K", refuse_at_write=True)],
        capabilities=["return-path"],
        expected=Result.FAILED_DESTINATION_EXITED,
    ).run()
    assert outcome.as_expected, outcome
    assert outcome.record.source_ran_on
    (refused,) = [
        call
        for call in asked.calls(outcome, "destination").calls("write")
        if call.answer.get("errno") == "EINVAL"
    ]
    assert "has one bit flipped" in refused.answer["problem"]


def _refused(
    outcome: "Outcome", state: str, problem: str, reason: str = "Input/output error"
) -> None:
    """The destination reset its device instead of failing, and said so where nobody looks."""
    assert outcome.as_expected, outcome
    assert problem in outcome.record.error
    assert [a.status for a in outcome.record.attempts] == ["completed"]
    assert outcome.destination.record.runstate == "running"
    words = f"Failed setting device state to {state}. Recover state is ERROR. Resetting device: "
    assert words + reason in said(outcome, "destination")


def test_a_source_that_cant_be_stopped_in_the_end_is_reset_and_runs(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """The guest is elsewhere, and its device, RUNNING as after any reset, stays behind."""
    device = vfio.emulated("idle", initial="1M", when=["set-state:stop+errno=EIO+in=stop-copy"])
    outcome = migration(
        vm="none",
        devices=[device],
        destination_devices=[vfio.emulated("idle", initial="1M")],
        capabilities=["return-path"],
    ).run()
    assert outcome.completed, outcome
    assert outcome.source.record.devices[0].state == "running"
    assert f"Failed setting device state to STOP. {RESET}" in said(outcome)


def test_qemu_aborts_if_the_reset_fails_as_well(migration: "Migrate", vfio: "Vfio") -> None:
    rules = ["set-state:stop-copy+errno=EIO", "reset+errno=EIO+in=pre-copy-p2p"]
    outcome = migration(
        vm="none",
        devices=[vfio.emulated("idle", initial="1M", when=rules)],
        capabilities=["return-path"],
        expected=Result.CRASHED,
    ).run()
    assert outcome.as_expected, outcome
    assert outcome.record.error.startswith("source was killed by SIGABRT")
    assert "Failed resetting device, err: Input/output error" in said(outcome)
