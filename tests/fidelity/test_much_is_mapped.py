"""A program that maps more than there are descriptors for ends neither the emulation nor itself."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fidelity.test_fidelity import emulated

#: Maps memfds until it can't, then asks for something else.
PROGRAM = """
import errno, fcntl, os, struct, sys
count = int(sys.argv[1])
ioas = bytearray(struct.pack("3I", 12, 0, 0))
fcntl.ioctl(200, 0x3B81, ioas)
mapped = 0
try:
    for mapped in range(count):
        file = os.memfd_create("memory")
        os.truncate(file, 4096)
        fields = (40, 7, struct.unpack("3I", ioas)[2], file, 0, 4096, mapped * 4096)
        fcntl.ioctl(200, 0x3B8F, struct.pack("4I3Q", *fields))
        os.close(file)
    mapped = count
except OSError as error:
    print(errno.errorcode[error.errno])
print(mapped)
fcntl.ioctl(200, 0x3B81, ioas)
print("alive")
"""


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """What is started may have 400 files open at first, and then as many as it asks for."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_descriptors")
def test_more_files_are_mapped_than_a_process_has_at_first(tmp_path: Path) -> None:
    done = emulated(["idle"], sys.executable, "-c", PROGRAM, "800", folder=tmp_path)
    assert done.stdout.split() == ["800", "alive"], done.stderr


def test_where_there_are_no_more_that_is_said_and_all_else_goes_on(tmp_path: Path) -> None:
    """The program takes them from its supervisor, which is its parent."""
    take = "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (600, 600))"
    code = f"{take}\n{PROGRAM}"
    done = emulated(["idle"], sys.executable, "-c", code, "800", folder=tmp_path)
    refused, mapped, alive = done.stdout.split()
    assert (refused, alive) == ("ENOMEM", "alive"), done.stderr
    assert 200 < int(mapped) < 600
