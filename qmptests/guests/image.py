"""The dirtier as a firmware image: the assembled program with its parameters filled in."""

import struct
from functools import cache
from pathlib import Path

IMAGE_SIZE = 65536
"""Bytes; QEMU takes a PC's firmware in multiples of this."""

TIMER_HZ = 1_193_182
"""Frequency of a PC's timer (8254), by which the guest measures time."""

BINARY = Path(__file__).with_name("dirtier_x86.bin")

_PARAMETERS = struct.Struct("<8s6I")
_MAGIC = b"DIRTIER1"
_RESET_VECTOR = IMAGE_SIZE - 16
# A 16-bit near jump from there to the image's first byte, 0xffff0000, where the program begins.
_JUMP = b"\xe9" + struct.pack("<H", IMAGE_SIZE - (_RESET_VECTOR + 3))


@cache
def _program() -> bytes:
    return BINARY.read_bytes()


def firmware_image(
    *,
    start: int,
    pages: int,
    seed: int,
    first_value: int,
    bytes_per_second: int,
    report_interval_ms: int,
) -> bytes:
    """The image for `-bios`. `bytes_per_second` 0 is full speed; see dirtier.py for the limits."""
    program = _program()
    if program[-_PARAMETERS.size :][: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{BINARY} does not end in the parameters that this module knows")
    parameters = _PARAMETERS.pack(
        _MAGIC,
        start,
        pages,
        seed,
        first_value,
        (bytes_per_second << 32) // (4096 * TIMER_HZ),
        report_interval_ms * TIMER_HZ // 1000,
    )
    image = bytearray(IMAGE_SIZE)
    image[: len(program)] = program[: -_PARAMETERS.size] + parameters
    image[_RESET_VECTOR : _RESET_VECTOR + len(_JUMP)] = _JUMP
    return bytes(image)
