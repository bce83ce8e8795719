"""The guest `none`: nothing but the machine's own firmware."""

from collections.abc import Sequence
from pathlib import Path

from qmptests.guests.protocol import Buffer, MemoryRange, Observation


class SilentConsole:
    """A console from which nothing is expected: what the firmware prints is of no interest."""

    ready = True
    alive = False
    counter = None

    def feed(self, data: bytes) -> list[Observation]:  # noqa: ARG002
        """Nothing becomes clear."""
        return []


class NoGuest:
    """No guest: there is nothing to wait for and nothing to check."""

    kind = "none"
    ranges: tuple[MemoryRange, ...] = ()

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture

    def arguments(self, directory: Path) -> list[str]:  # noqa: ARG002
        """None: QEMU brings its firmware."""
        return []

    def console(self, *, resumed: bool = False) -> SilentConsole:  # noqa: ARG002
        """One that says nothing."""
        return SilentConsole()

    def check(self, snapshots: Sequence[Buffer]) -> None:
        """Nobody knows what the memory should be."""
