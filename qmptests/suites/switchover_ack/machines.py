"""Machine types that pin the mechanism of acks: new ones from 11.1 on, legacy ones up to 11.0.

A test picks one by its version to bring a mechanism about. Which one is in use is observed.
"""

import re
from typing import TYPE_CHECKING

import pytest

from qmptests.downtime import acks

if TYPE_CHECKING:
    from qmptests.builds import Build

#: The last types with the legacy mechanism (QEMU's hw_compat_11_0).
LEGACY_UNTIL = (11, 0)
#: The property that makes a type's mechanism the legacy one, or the new one.
LEGACY = "migration.switchover-ack-legacy"


def _version(name: str) -> tuple[int, ...]:
    matched = re.fullmatch(r"pc-q35-(\d+)\.(\d+)(?:\.\d+)?", name)
    return (int(matched[1]), int(matched[2])) if matched else ()


def _newest(*builds: "Build", new: bool) -> str:
    common = set.intersection(*({m.name for m in build.facts.machines} for build in builds))
    names = [name for name in common if _version(name)]
    found = [name for name in names if (_version(name) > LEGACY_UNTIL) is new]
    return max(found, key=_version, default="")


def legacy(*builds: "Build") -> str:
    """The newest type with the legacy mechanism that the builds have."""
    return _newest(*builds, new=False)


def new(*builds: "Build") -> str:
    """The newest type with the new mechanism that the builds have; skips where there is none."""
    found = _newest(*builds, new=True)
    if not found:
        names = " and ".join(dict.fromkeys(build.name for build in builds))
        pytest.skip(f"no pc-q35 type after 11.0, which has the new mechanism, in {names}")
    return found


#: By the mechanism that they are to have, and a test for each of these.
TYPES = {acks.LEGACY: legacy, acks.NEW: new}
of_each_kind = pytest.mark.parametrize("kind", TYPES)
