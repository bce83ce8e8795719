"""The guest `dirtier`: a boot program of ours that writes memory in a known pattern, for ever."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from qmptests.errors import EnvironmentFailure, InputError
from qmptests.guests.console import DirtierConsole
from qmptests.guests.image import firmware_image
from qmptests.guests.pattern import PAGE_SIZE, check_pattern
from qmptests.guests.protocol import Buffer, MemoryRange, MemoryReport
from qmptests.units import format_size

_MIB = 1 << 20
_LOWEST_START = _MIB  # below are the guest's own variables, the display's memory and the firmware
_HIGHEST_END = 2 << 30  # on every PC, memory up to here is in one piece
_FASTEST = 4 << 30  # above it the guest would owe more than a page per tick of its clock
_FEWEST_PER_SECOND = PAGE_SIZE
_LONGEST_INTERVAL_MS = 60_000


class DirtierParameters(Struct, frozen=True):
    """What the dirtier does: the keys of a VM definition's `[guest]` table."""

    start: int = _MIB
    """Guest-physical address of the first page, in bytes; at least 1 MiB, a multiple of 4096."""
    length: int = 16 * _MIB
    """How much it writes, in bytes; a multiple of 4096 that ends below 2 GiB and in the RAM."""
    rate: int = 32 * _MIB
    """How fast it dirties pages, in bytes per second of the guest's time; 0: as fast as it can."""
    seed: int = 0
    """Makes the patterns of two guests differ; 0 to 2^31-1."""
    report_interval: int = 10
    """Milliseconds of the guest's time between two lines on the serial port."""


class Dirtier:
    """A dirtier on a PC with `ram` bytes of memory.

    Raises InputError, with the key's path, if a parameter can't be.
    """

    kind = "dirtier"
    architecture = "x86_64"

    def __init__(self, parameters: DirtierParameters, *, ram: int) -> None:
        _validate(parameters, ram)
        self.parameters = parameters
        self.ranges = (MemoryRange(parameters.start, parameters.length),)

    @property
    def _first_value(self) -> int:
        # Odd, as the pattern asks for, and different for each seed.
        return (self.parameters.seed * 0x9E3779B2 + 0x85EBCA6B) % (1 << 32)

    def arguments(self, directory: Path) -> list[str]:
        """Puts the firmware image into `directory`; its serial port is the machine's first."""
        wanted = self.parameters
        path = directory / "dirtier.img"
        image = firmware_image(
            start=wanted.start,
            pages=wanted.length // PAGE_SIZE,
            seed=wanted.seed,
            first_value=self._first_value,
            bytes_per_second=wanted.rate,
            report_interval_ms=wanted.report_interval,
        )
        try:
            path.write_bytes(image)
        except OSError as error:
            raise EnvironmentFailure(
                f"the guest's image {path} can't be written: {error.strerror}"
            ) from error
        return ["-bios", str(path)]

    def console(self, *, resumed: bool = False) -> DirtierConsole:
        """Ready once the memory is filled."""
        return DirtierConsole(resumed=resumed)

    def check(self, snapshots: Sequence[Buffer]) -> MemoryReport:
        """Exactly one edge, and every byte of every page as written."""
        (snapshot,) = snapshots
        return check_pattern(
            snapshot,
            address=self.parameters.start,
            length=self.parameters.length,
            first_value=self._first_value,
        )


def _validate(wanted: DirtierParameters, ram: int) -> None:
    def require(condition: bool, key: str, problem: str) -> None:
        if not condition:
            raise InputError(f"guest.{key}: {getattr(wanted, key)} {problem}")

    require(wanted.start >= _LOWEST_START, "start", "is below 1M, where the guest's own data is")
    require(wanted.start % PAGE_SIZE == 0, "start", f"is not a multiple of {PAGE_SIZE}")
    require(wanted.length > 0, "length", "is not positive")
    require(wanted.length % PAGE_SIZE == 0, "length", f"is not a multiple of {PAGE_SIZE}")
    end = min(ram, _HIGHEST_END)
    require(
        wanted.start + wanted.length <= end,
        "length",
        f"does not fit: from {format_size(wanted.start)} on, only "
        f"{format_size(max(0, end - wanted.start))} are left below {format_size(end)} "
        f"({'the end of the memory' if end == ram else 'the most that the guest can reach'})",
    )
    require(
        wanted.rate == 0 or _FEWEST_PER_SECOND <= wanted.rate <= _FASTEST,
        "rate",
        f"is neither 0 (full speed) nor from {_FEWEST_PER_SECOND} to {format_size(_FASTEST)} "
        "bytes per second",
    )
    require(0 <= wanted.seed < 1 << 31, "seed", "is not from 0 to 2147483647")
    require(
        1 <= wanted.report_interval <= _LONGEST_INTERVAL_MS,
        "report_interval",
        f"is not from 1 to {_LONGEST_INTERVAL_MS} ms",
    )
