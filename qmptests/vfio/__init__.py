"""VFIO devices emulated in user space, for an unmodified QEMU.

The supervisor's half (`supervisor.py` and what it imports) runs on the standard library alone, so
nothing is imported here.
"""
