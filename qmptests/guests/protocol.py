"""What every guest offers, whatever it is and whatever it runs on."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap


class MemoryRange(Struct, frozen=True):
    """A piece of guest-physical memory; address and length in bytes, as `pmemsave` takes them."""

    address: int
    length: int


class BadPage(Struct, frozen=True):
    """A page that is not what the guest wrote: its number in the range, its address, and why."""

    page: int
    address: int
    problem: str


class MemoryReport(Struct, frozen=True):
    """What a guest found in a snapshot of its memory.

    `generation` is the number of the pass that was under way, modulo 2^32; `edge` the first page
    that this pass had not reached yet, or None between two passes. `bad_pages` counts all bad
    pages, `bad` has the first of them.
    """

    pages: int
    generation: int
    edge: int | None
    bad_pages: int
    bad: tuple[BadPage, ...]

    @property
    def right(self) -> bool:
        """Whether every byte of every page is what the guest wrote last."""
        return self.bad_pages == 0


class Started(Struct, frozen=True, tag="started"):
    """The guest said that it is ready; `text` is what it said."""

    text: str


class Rebooted(Struct, frozen=True, tag="rebooted"):
    """The guest started once more: the VM was reset, or began anew instead of going on."""

    text: str


class Reported(Struct, frozen=True, tag="reported"):
    """A sign of life: the guest's own counter and how many pages it has written, modulo 2^32."""

    counter: int
    pages: int


class Noise(Struct, frozen=True, tag="noise"):
    """A line that the guest does not write; bytes that are not ASCII are escaped."""

    text: str


Observation: TypeAlias = Started | Rebooted | Reported | Noise


class Console(Protocol):
    """Reads what one QEMU process sends of the guest's serial port. Does no I/O itself."""

    @property
    def ready(self) -> bool:
        """Whether the guest has begun its work, so that a migration of it means something."""

    @property
    def alive(self) -> bool:
        """Whether the guest has shown on this console that it runs in this process."""

    @property
    def counter(self) -> int | None:
        """The guest's own counter, as last seen here; None if it has none or has not been seen."""

    def feed(self, data: bytes) -> list[Observation]:
        """Take the next bytes, of any length, and return what became clear by them."""


class Guest(Protocol):
    """What runs inside a VM."""

    @property
    def kind(self) -> str:
        """Its name in a VM definition."""

    @property
    def architecture(self) -> str:
        """The QEMU target that it runs on, such as `x86_64`."""

    @property
    def ranges(self) -> tuple[MemoryRange, ...]:
        """The memory that `check` wants to see, read while the VM is stopped."""

    def arguments(self, directory: Path) -> list[str]:
        """QEMU's arguments for it, the same for both sides. Its files are put in `directory`.

        Raises EnvironmentFailure if they can't be written.
        """

    def console(self, *, resumed: bool = False) -> Console:
        """A reader for the serial port of a VM that starts, or goes on (`resumed`: destination)."""

    def check(self, snapshots: Sequence[Buffer]) -> MemoryReport | None:
        """Compare `snapshots`, one for each of `ranges`, with what the guest writes.

        None if this guest can't tell. Raises ValueError if a snapshot is not as long as its range.
        """
