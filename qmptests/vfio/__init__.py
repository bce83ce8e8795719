"""VFIO devices emulated in user space, for an unmodified QEMU.

The supervisor's half (`start.py`, `supervisor.py` and what they import) runs on the standard
library alone, so nothing is imported here.
"""
