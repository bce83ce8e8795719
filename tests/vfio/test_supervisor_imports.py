"""The supervisor starts fast and anywhere: standard library and its own room only."""

import subprocess
import sys
from pathlib import Path

import qmptests
from qmptests.vfio import supervisor

CODE = """
import sys
before = set(sys.modules)
sys.path.append({root!r})
import qmptests.vfio.supervisor
print(*sorted(set(sys.modules) - before))
"""
#: What none of it needs, and what would make it slow to start.
HEAVY = {"asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess", "tempfile"}


def test_it_imports_its_own_room_and_light_parts_of_the_standard_library() -> None:
    root = str(Path(qmptests.__file__).parents[1])
    names = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CODE.format(root=root)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert supervisor.__name__ in names
    ours = {name for name in names if name.startswith("qmptests")}
    assert all(
        name in ("qmptests", "qmptests.vfio") or name.startswith("qmptests.vfio.") for name in ours
    )
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"qmptests"}
    assert foreign == set()
    assert HEAVY.isdisjoint(names), HEAVY.intersection(names)
