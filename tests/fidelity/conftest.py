"""Where the probe and QEMU find a file that is not memory."""

import os
from pathlib import Path

import pytest

from qmptests.vfio.sources import is_memory


@pytest.fixture
def disk_folder(tmp_path: Path) -> Path:
    """A folder on a disk: what a device may not write to."""
    file = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    try:
        if is_memory(file):
            pytest.skip(f"{tmp_path} is memory (tmpfs): --basetemp a folder on a disk")
    finally:
        os.close(file)
    return tmp_path
