"""What can't arrive is refused: in QEMU's own words, and the guest goes on at the source.

With return-path: without it the source may already say completed when the destination refuses a
device, which comes last in the stream, and then the guest is lost (docs/findings/refusals.md).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from qmptests.builds.facts import FAMILIES
from qmptests.outcome.record import Result
from qmptests.suites.compat import words
from qmptests.vm import devices

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

# One cell of each pair and machine family: no older type refuses in other words.
pytestmark = [pytest.mark.usefixtures("cell"), pytest.mark.qemu_cells(select="smoke")]

USB = devices.load("usb,addr=0a.0")
NIC = devices.load("e1000e,addr=0a.0")
VGA = devices.load("vga,addr=0a.0")
USB_ELSEWHERE = devices.load("usb,addr=0b.0")


def changed(wanted: "Migration", **changes: Any) -> "Outcome":
    """The outcome of a migration with return-path and these changes to its plan."""
    capabilities = {**wanted.plan.capabilities, "return-path": True}
    plan = replace(wanted.plan, capabilities=capabilities, **changes)
    return replace(wanted, plan=plan).run()


def assert_refused(outcome: "Outcome", refusal: str, destination: "Build", *facts: Any) -> None:
    """As the plan expected, in the words of `refusal`, and the guest goes on at the source."""
    assert outcome.as_expected, outcome
    said = outcome.destination.record.stderr_tail
    assert words.find(refusal, said, destination.facts.version, *facts), said
    assert outcome.record.source_ran_on, outcome


def types(build: "Build", machine: str) -> list[str]:
    """The build's versioned types of the family of `machine`, the oldest first."""
    for family, prefix in FAMILIES.items():
        if machine.startswith(prefix):
            return list(build.facts.versions_of(family).values())
    pytest.skip(f"{machine} is of no family with versions")


def test_a_machine_type_that_the_destination_lacks(migration: "Migrate") -> None:
    """One that no QEMU has: the destination refuses its command line."""
    wanted, machine = migration(), "pc-q35-999.0"
    outcome = changed(wanted, destination_machine=machine, expected=Result.START_FAILED)
    assert_refused(outcome, "unknown machine type", wanted.plan.destination, machine)


def test_a_newer_machine_type_than_the_destination_knows(migration: "Migrate") -> None:
    """The source's newest, on both sides."""
    wanted = migration()
    source, destination = wanted.plan.source, wanted.plan.destination
    machine = types(source, wanted.plan.resolved_machine())[-1]
    if destination.facts.has_machine(machine):
        pytest.skip(f"{source.name} has no newer machine type than {destination.name}")
    outcome = changed(
        wanted, machine=machine, destination_machine=machine, expected=Result.START_FAILED
    )
    assert_refused(outcome, "unknown machine type", destination, machine)


@pytest.mark.parametrize("older", ["destination", "source"])
def test_the_sides_have_different_machine_types(migration: "Migrate", older: str) -> None:
    """The cell's, and the next older one that both builds know."""
    wanted = migration()
    newer = wanted.plan.resolved_machine()
    common = [
        name
        for name in types(wanted.plan.source, newer)
        if wanted.plan.destination.facts.has_machine(name)
    ]
    if common[0] == newer:
        pytest.skip(f"{newer} is the oldest type that both builds know")
    before = common[common.index(newer) - 1]
    ours, theirs = (newer, before) if older == "destination" else (before, newer)
    outcome = changed(
        wanted,
        machine=ours,
        destination_machine=theirs,
        expected=Result.FAILED_DESTINATION_EXITED,
    )
    assert_refused(outcome, "another machine type", wanted.plan.destination, ours, theirs)


@pytest.mark.parametrize("factor", [0.5, 2.0], ids=["half", "double"])
def test_another_memory_size_at_the_destination(migration: "Migrate", factor: float) -> None:
    """Half, and twice, of what the source has."""
    wanted = migration()
    ours = wanted.plan.definition.memory_bytes
    theirs = int(ours * factor)
    outcome = changed(
        wanted,
        destination_definition=msgspec.structs.replace(wanted.plan.definition, memory=str(theirs)),
        expected=Result.FAILED_DESTINATION_EXITED,
    )
    assert_refused(outcome, "another size", wanted.plan.destination, ours, theirs)


@pytest.mark.parametrize(
    ("source", "destination", "refusal", "named"),
    [
        pytest.param((USB,), (), "unknown section", "0000:00:0a.0/xhci", id="at-destination"),
        pytest.param((NIC,), (), "unknown memory", "0000:00:0a.0/e1000e.rom", id="with-memory"),
        # What comes after it has another address then.
        pytest.param(
            (USB,), (VGA, USB_ELSEWHERE), "unknown section", "0000:00:0a.0/xhci", id="at-source"
        ),
    ],
)
def test_a_device_is_missing_on_one_side(
    migration: "Migrate",
    source: "tuple[devices.DeviceProfile, ...]",
    destination: "tuple[devices.DeviceProfile, ...]",
    refusal: str,
    named: str,
) -> None:
    """A section, or memory, comes for a device that the destination has not, or not there."""
    wanted = migration()
    outcome = changed(
        wanted,
        devices=source,
        destination_devices=destination,
        expected=Result.FAILED_DESTINATION_EXITED,
    )
    assert_refused(outcome, refusal, wanted.plan.destination, named)


def test_a_device_of_which_the_stream_has_nothing_is_not_missed(migration: "Migrate") -> None:
    """One more at the destination, which moves no other: no QEMU looks for what does not come."""
    outcome = changed(migration(), devices=(), destination_devices=(USB,))
    assert outcome.completed, outcome
