"""Machine types that pin the mechanism of acks: new ones from 11.1 on, legacy ones up to 11.0.

A test picks one by its version to bring a mechanism about. Which one is in use is observed.
"""

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qmptests.builds import Build

#: The last types with the legacy mechanism (QEMU's hw_compat_11_0).
LEGACY_UNTIL = (11, 0)
#: The property that makes a type's mechanism the legacy one, or the new one.
LEGACY = "migration.switchover-ack-legacy"


def _version(name: str) -> tuple[int, ...]:
    matched = re.fullmatch(r"pc-q35-(\d+)\.(\d+)(?:\.\d+)?", name)
    return (int(matched[1]), int(matched[2])) if matched else ()


def _newest(build: "Build", *, new: bool) -> str:
    names = [machine.name for machine in build.facts.machines if _version(machine.name)]
    found = [name for name in names if (_version(name) > LEGACY_UNTIL) is new]
    return max(found, key=_version, default="")


def legacy(build: "Build") -> str:
    """The build's newest type of those with the legacy mechanism."""
    return _newest(build, new=False)


def new(build: "Build") -> str:
    """The build's newest type with the new mechanism; skips where it has none."""
    found = _newest(build, new=True)
    if not found:
        pytest.skip(f"{build.name} has no pc-q35 type after 11.0: those have the new mechanism")
    return found
