"""Every message of this code, and who provokes it.

Each text is one that QEMU has, and stands in the file that provokes it: for some, this one.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, pending
from qmptests.suites.vfio.attempts import said

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("same_build"),
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

SUITES = Path(__file__).parent.parent
INTERRUPTED = "Switchover is interrupted"
NOT_SENT = "Could not send switchover ack RP MSG"
SIBLING = "Sibling indicated error"
#: The source has read that the destination ends the return path.
TOLD = "source_return_path_thread_shut"
ACKS = ["return-path", "switchover-ack"]


class Text(NamedTuple):
    """What is always the same in a message, and the file below the suites that provokes it.

    `new`: it came with the series, or with "VFIO fixes" before it.
    """

    text: str
    file: str
    new: bool = False


HERE = "switchover_ack/test_messages.py"
RULES = "switchover_ack/test_rules.py"
FAILURES = "switchover_ack/test_failures.py"
MISMATCH = "switchover_ack/test_mismatch.py"
FIXES = "switchover_ack/test_vfio_fixes.py"

PROVOKED = [
    Text("Capability 'switchover-ack' requires capability 'return-path'", RULES),
    Text("Received INIT_DATA_SENT but switchover ack is not used", RULES),
    Text("devices during switchover", FAILURES, new=True),
    Text("Final precopy reinit check failed", FAILURES, new=True),
    Text("Switchover ack pending num underflowed", MISMATCH, new=True),
    Text("qemu_loadvm_approve_switchover failed", MISMATCH),
    Text(NOT_SENT, HERE),
    Text(INTERRUPTED, HERE),
    Text(SIBLING, HERE),
    Text("data_fd out of sync", "vfio/test_cancel.py"),
    Text("(VFIO_DEVICE_FEATURE) on VFIO_DEVICE_FEATURE_MIG_DATA_SIZE", FIXES, new=True),
    Text("(VFIO_MIG_GET_PRECOPY_INFO)", FIXES, new=True),
    Text("size overflow", FIXES, new=True),
    Text("Unable to read from file", "switchover_ack/test_one_way.py"),
]
#: The command SWITCHOVER_START has one handler, VFIO's for multifd. It starts a thread for each
#: device, which QEMU does not survive if it can't, and has no way to fail.
UNREACHABLE = [Text("Switchover start failed", "", new=True)]


@pytest.mark.parametrize("message", [*PROVOKED, *UNREACHABLE], ids=lambda message: message.text)
def test_each_message_is_one_of_the_build(same_build: "Build", message: Text) -> None:
    there = message.text.encode() in same_build.binary.read_bytes()
    assert there == (not message.new or pending.has_the_fixes(same_build))


@pytest.mark.parametrize("message", PROVOKED, ids=lambda message: message.text)
def test_each_message_stands_in_the_file_that_provokes_it(message: Text) -> None:
    assert message.text in (SUITES / message.file).read_text(encoding="utf-8")


class SourceGone(Observer):
    """The destination sleeps until the source has opened the return path, and died."""

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Put it to sleep when it listens, wake it when there is nobody any more."""
        if phase is Phase.LISTENING:
            run.destination.process.signal(signal.SIGSTOP)
        elif phase is Phase.ACTIVE:
            await run.source.kill()
            run.destination.process.signal(signal.SIGCONT)
            await run.destination.process.exited


def test_an_ack_for_no_device_that_cant_be_sent(migration: "Migrate", same_build: "Build") -> None:
    """The legacy mechanism acknowledges at once where nobody has to approve."""
    outcome = migration(
        vm="none",
        machine=machines.legacy(same_build),
        capabilities=ACKS,
        expected=Result.SOURCE_DIED,
    ).run(SourceGone())
    assert outcome.as_expected, outcome
    assert NOT_SENT in said(outcome, "destination")


@pytest.mark.parametrize("capabilities", [[], ACKS], ids=["one-way", "with-acks"])
def test_cancelled_in_pre_switchover(
    migration: "Migrate", same_build: "Build", capabilities: list[str]
) -> None:
    """10.0 never says so: the channel that the cancel closes is what it tells of.

    That is what 11.1 tells too if the return path notices first; the message is in the trace then.
    """
    outcome = migration(
        vm="none",
        capabilities=[*capabilities, "pause-before-switchover"],
        cancel_at="pre-switchover",
        expected=Result.CANCELLED,
    ).run()
    assert outcome.as_expected, outcome
    errors = [event.args["error"] for event in outcome.source.trace.events("migrate_error")]
    assert (INTERRUPTED in errors) == pending.has_the_fixes(same_build)
    if not capabilities:
        assert outcome.record.attempts[0].error == errors[0]


def test_the_destination_says_that_it_has_failed(migration: "Migrate", vfio: "Vfio") -> None:
    """The source, held, hears of it on the return path before it finds the channel broken.

    The destination is held until then; a Unix socket would be full before.
    """

    async def sent(run: "Run") -> None:
        assert run.source.emulation is not None
        await run.source.emulation.expect("held", what="the source's next read", timeout=20)

    async def told(run: "Run") -> None:
        await run.source.trace.wait_for(TOLD, timeout=20)

    here, there = WhenHeld("source", told), WhenHeld("destination", sent)
    rules = [
        "read+hold+nth=2+side=source",
        "write+hold+side=destination",
        "write+errno=EIO+nth=2+side=destination",
    ]
    outcome = migration(
        vm="none",
        devices=[vfio.emulated("idle", initial="128K", when=rules)],
        capabilities=ACKS,
        transport="tcp",
        trace=(TOLD,),
        expected=Result.FAILED_DESTINATION_EXITED,
    ).run(here, there)
    assert outcome.as_expected, outcome
    assert (here.count, there.count) == (1, 1)
    assert outcome.record.attempts[0].error == f"{SIBLING} 1"
