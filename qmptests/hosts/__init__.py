"""Hosts: where processes run, and the launcher that owns every one of them."""

from qmptests.hosts.local import LocalHost, local
from qmptests.hosts.process import ExitStatus, Process
from qmptests.hosts.waiting import (
    ProcessDied,
    WaitTimeout,
    Watched,
    abandon,
    deadline,
    wait,
    without_deadlines,
)

__all__ = [
    "ExitStatus",
    "LocalHost",
    "Process",
    "ProcessDied",
    "WaitTimeout",
    "Watched",
    "abandon",
    "deadline",
    "local",
    "wait",
    "without_deadlines",
]
