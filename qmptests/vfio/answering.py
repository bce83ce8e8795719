"""What the requests on an iommufd have in common: refusals, and the structure written back."""

import errno
from typing import Any

from qmptests.vfio import abi
from qmptests.vfio.calls import Call, Memory
from qmptests.vfio.iova import LAST


def refuse(unknown: int) -> None:
    """Raise OSError (EOPNOTSUPP) for bits that must be zero."""
    if unknown:
        raise OSError(errno.EOPNOTSUPP, f"{unknown:#x} has no meaning")


def fits(*numbers: int) -> None:
    """Raise OSError (EOVERFLOW) for what reaches the last byte of 64 bits, or beyond."""
    if max(numbers) >= LAST:
        raise OSError(errno.EOVERFLOW, "past the end")


def ends(start: int, length: int) -> None:
    """Raise OSError: EINVAL for no bytes, EOVERFLOW if the last of them is past 64 bits."""
    if not length:
        raise OSError(errno.EINVAL, "no bytes")
    if start + length - 1 > LAST:
        raise OSError(errno.EOVERFLOW, "past the end")


def respond(memory: Memory, call: Call, layout: abi.Layout[Any], record: Any) -> None:
    """Write the structure back, as far as the caller has it."""
    memory.write(call.address, layout.pack(record)[: call.size])
