"""VMs: a definition becomes a command line, a process, a monitor and a console."""

from qmptests.vm.definition import Definition, load, parse, shipped
from qmptests.vm.vm import VM

__all__ = ["VM", "Definition", "load", "parse", "shipped"]
