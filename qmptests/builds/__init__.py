"""Builds: what QEMUs there are, how each is launched, and what each can do.

build = resolve("debian:trixie", progress=print)
command = [*build.argv, "-machine", build.facts.resolve_machine("q35")]
"""

from qmptests.builds.build import Build, newest_common_machine
from qmptests.builds.facts import Facts, Machine
from qmptests.builds.locate import damage, is_same_binary
from qmptests.builds.resolve import Broken, add, inspect_all, list_builds, remove, resolve

__all__ = [
    "Broken",
    "Build",
    "Facts",
    "Machine",
    "add",
    "damage",
    "inspect_all",
    "is_same_binary",
    "list_builds",
    "newest_common_machine",
    "remove",
    "resolve",
]
