"""The supervisor starts fast and anywhere: standard library and its own room only."""

import subprocess
import sys
from pathlib import Path

import qmptests
from qmptests.vfio import start, supervisor

CODE = """
import sys
before = set(sys.modules)
sys.path.append({root!r})
import {module}
print(*sorted(set(sys.modules) - before))
"""
#: What none of it needs, and what would make it slow to start.
HEAVY = {"asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess", "tempfile"}


def imported_by(module: str) -> list[str]:
    """All that comes with a module into a Python that has nothing yet."""
    root = str(Path(qmptests.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", CODE.format(root=root, module=module)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def test_it_imports_its_own_room_and_light_parts_of_the_standard_library() -> None:
    names = imported_by(supervisor.__name__)
    assert supervisor.__name__ in names
    ours = {name for name in names if name.startswith("qmptests")}
    shared = {
        "qmptests",
        "qmptests.kept",
        "qmptests.printable",
        "qmptests.reaping",
        "qmptests.vfio",
    }
    assert all(name in shared or name.startswith("qmptests.vfio.") for name in ours)
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"qmptests"}
    assert foreign == set()
    assert HEAVY.isdisjoint(names), HEAVY.intersection(names)


def test_the_command_is_started_before_what_serves_it_is_imported() -> None:
    names = imported_by(start.__name__)
    assert {name for name in names if name.startswith("qmptests.vfio.")} == {
        f"qmptests.vfio.{name}"
        for name in (
            "abi_filter",
            "alone",
            "arch",
            "bpf",
            "descriptors",
            "guard",
            "interpose",
            "start",
        )
    } | {"qmptests.vfio.syscalls"}
