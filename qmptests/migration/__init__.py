"""Migrations: a plan, its run in fixed phases, those who watch it, and the verdict."""

from qmptests.migration.held import WhenHeld
from qmptests.migration.observers import Kill, Observer, Phase
from qmptests.migration.pause import PauseOnFailure
from qmptests.migration.plan import Plan
from qmptests.migration.run import Run, migrate

__all__ = ["Kill", "Observer", "PauseOnFailure", "Phase", "Plan", "Run", "WhenHeld", "migrate"]
