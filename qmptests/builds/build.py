"""A build: one QEMU binary with all that it needs to be launched."""

from pathlib import Path

import msgspec

from qmptests.builds.facts import Facts
from qmptests.errors import InputError


class Build(msgspec.Struct, frozen=True):
    """A QEMU that can be launched: `argv` and the machine's options make a command line."""

    name: str
    """Unique among the registered builds."""
    spec: str
    """What it was found by: `debian:SUITE`, or an absolute path."""
    binary: Path
    argv: tuple[str, ...]
    """The command line's beginning: loader and libraries if it has its own, binary, firmware."""
    env: dict[str, str]
    """What the environment needs beside our own."""
    origin: dict[str, str]
    """Where it comes from, in words: package versions, or git's description and configure line."""
    digest: str
    """Of its content: of the set of packages, or of the binary."""
    facts: Facts
    registered: bool = False


def newest_common_machine(a: Build, b: Build, family: str) -> str:
    """The newest versioned machine type of `family` (`q35` or `pc`) that both builds know.

    Raises InputError with the range of each if there is none.
    """
    ours, theirs = a.facts.versions_of(family), b.facts.versions_of(family)
    common = ours.keys() & theirs.keys()
    if common:
        return ours[max(common)]
    raise InputError(
        f"no versioned machine type of the family '{family}' is common to "
        f"{a.name} ({_range(ours)}) and {b.name} ({_range(theirs)})"
    )


def _range(machines: dict[tuple[int, ...], str]) -> str:
    names = list(machines.values())
    if not names:
        return "it has none"
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
