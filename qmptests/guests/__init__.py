"""What runs inside a VM while it migrates, and how to tell that it still runs, and runs right.

A guest is chosen by kind and architecture (`create`). It says what to put on QEMU's command line,
reads its own serial console, and checks snapshots of the memory that it writes.
"""

from qmptests.guests.protocol import (
    BadPage,
    Console,
    Guest,
    MemoryRange,
    MemoryReport,
    Noise,
    Observation,
    Rebooted,
    Reported,
    Started,
)
from qmptests.guests.registry import create, kinds

__all__ = [
    "BadPage",
    "Console",
    "Guest",
    "MemoryRange",
    "MemoryReport",
    "Noise",
    "Observation",
    "Rebooted",
    "Reported",
    "Started",
    "create",
    "kinds",
]
