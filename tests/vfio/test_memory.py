"""The memory of a process that ends while it is written to."""

import ctypes
import os
import subprocess

import pytest

from qmptests.vfio.memory import ProcessMemory


def test_a_killed_process_is_gone_and_not_wrong() -> None:
    """A zombie has no memory any more, as one whose other threads still end."""
    with subprocess.Popen(["sleep", "60"]) as process:
        memory = ProcessMemory(process.pid)
        data = ctypes.create_string_buffer(b"x" * 4096)
        with pytest.raises(OSError, match="Bad address"):
            memory.copy(0x1000, data, 4096)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            memory.copy(0x1000, data, 4096)
        memory.close()
