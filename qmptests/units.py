"""Sizes and times as people and QEMU write them: `16M` is 16 times 1024 times 1024 bytes."""

import re

from qmptests.errors import InputError

_SUFFIXES = ("", "K", "M", "G", "T")
_SIZE = re.compile(
    r"(?P<digits>[0-9]{1,30}(?:\.[0-9]{1,30})?)(?P<suffix>[KMGT]?)(?:i?B)?", re.ASCII | re.I
)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>s|ms|us)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes in `text`: a number with an optional suffix K, M, G or T (powers of 1024, as in QEMU).

    A fraction is allowed where it makes whole bytes (`1.5G`), `MiB` and `MB` mean the same as `M`.

    Raises InputError if `text` is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a size; write bytes or a number with K, M, G or T: 16M")
    whole, _, fraction = match["digits"].partition(".")
    unit = 1 << 10 * _SUFFIXES.index(match["suffix"].upper())
    scale: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * unit, scale)
    if rest:
        raise InputError(f"{text!r} is not a whole number of bytes; write it with a smaller unit")
    return size


def format_size(size: int) -> str:
    """`size` bytes as parse_size reads them back exactly, with the largest suffix that fits."""
    if size < 0:
        raise ValueError(f"a size is not negative: {size}")
    power = 0
    while size and size % 1024 == 0 and power < len(_SUFFIXES) - 1:
        size //= 1024
        power += 1
    return f"{size}{_SUFFIXES[power]}"


def parse_duration(text: str) -> float:
    """Seconds in `text`: a number with the unit s, ms or us.

    Raises InputError if `text` is not such a time.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a time; write a number with s, ms or us: 50ms")
    return float(match["number"]) / _PER_SECOND[match["unit"]]
