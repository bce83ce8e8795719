"""Hosts: where processes run, and the launcher that owns every one of them."""

from qmptests.hosts.life import Guard, Relied
from qmptests.hosts.local import LocalHost, local
from qmptests.hosts.process import ExitStatus, Process, is_stopped
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
    "Guard",
    "LocalHost",
    "Process",
    "ProcessDied",
    "Relied",
    "WaitTimeout",
    "Watched",
    "abandon",
    "deadline",
    "is_stopped",
    "local",
    "wait",
    "without_deadlines",
]
