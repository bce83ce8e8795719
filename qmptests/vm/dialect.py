"""How QEMU's versions differ on the command line and in QMP: one table.

Everything else asks here instead of comparing versions. Where a build can be asked itself
(capabilities, parameters, devices, trace events), the probe's facts are used, and there is no
entry.
"""

from enum import Enum
from typing import NamedTuple

Version = tuple[int, int, int]


class Entry(NamedTuple):
    """The first version that has something, and what that is."""

    since: Version
    what: str


class Feature(Enum):
    """What some of the supported versions (7.2 and later) lack."""

    CHANNELS = Entry((8, 2, 0), "`migrate` and `migrate-incoming` take `channels`, not only `uri`")
    VFIO_FD = Entry((9, 0, 0), "vfio-pci takes `fd=` with an iommufd backend")
    EXIT_ON_ERROR = Entry((9, 1, 0), "`migrate-incoming` takes `exit-on-error`")
    MONITOR_OBJECT = Entry((11, 1, 0), "`-object monitor-qmp`; `-mon` warns that it is deprecated")


def has(version: Version, feature: Feature) -> bool:
    """Whether QEMU `version` has `feature`."""
    return version >= feature.value.since


def monitor_args(version: Version, chardev: str) -> list[str]:
    """A QMP monitor on a character device."""
    if has(version, Feature.MONITOR_OBJECT):
        return ["-object", f"monitor-qmp,id=monitor-{chardev},chardev={chardev}"]
    return ["-mon", f"chardev={chardev},mode=control"]
