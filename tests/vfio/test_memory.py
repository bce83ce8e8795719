"""The memory of another process: what its program may do with it, and when that has ended."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qmptests.vfio.memory import Mappings, ProcessMemory

#: Says where it has a page of each kind, with nothing behind the last.
PAGES = """
import ctypes, mmap, time
libc = ctypes.CDLL(None, use_errno=True)
pages = mmap.mmap(-1, 4 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages[:] = b"x" * len(pages)
at = ctypes.addressof(ctypes.c_char.from_buffer(pages))
for page, allowed in ((1, mmap.PROT_READ), (2, 0)):
    assert libc.mprotect(ctypes.c_void_p(at + page * 4096), 4096, allowed) == 0
assert libc.munmap(ctypes.c_void_p(at + 3 * 4096), 4096) == 0
print(at, flush=True)
time.sleep(600)
"""


class Other:
    """A process with those pages."""

    def __init__(self) -> None:
        argv = [sys.executable, "-I", "-S", "-c", PAGES]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.at = int(self.process.stdout.readline())
        self.memory = ProcessMemory(self.process.pid, Mappings())


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    with made.process:
        yield made
        made.process.kill()
    made.memory.close()


def test_what_may_be_read_and_written_is(other: Other) -> None:
    other.memory.write(other.at, b"y" * 4096)
    assert other.memory.read(other.at, 4097) == b"y" * 4096 + b"x"
    assert other.memory.read(other.at + 4096, 4096) == b"x" * 4096


@pytest.mark.parametrize(
    ("offset", "length"),
    [(4096, 1), (4095, 2), (2 * 4096, 1), (3 * 4096, 1), (-(1 << 46), 8), (1 << 62, 8), (0, 8193)],
)
def test_what_the_program_may_not_write_is_efault(other: Other, offset: int, length: int) -> None:
    with pytest.raises(OSError, match="Bad address"):
        other.memory.write(other.at + offset, b"z" * length)
    assert other.memory.read(other.at, 8192) == b"x" * 8192, "nothing of it is written"


@pytest.mark.parametrize("address", [0, 1 << 47, (1 << 63) - 4, 1 << 63, (1 << 64) - 8, 1 << 64])
def test_ends_of_address_space_are_efault(other: Other, address: int) -> None:
    with pytest.raises(OSError, match="Bad address"):
        other.memory.read(address, 8)
    with pytest.raises(OSError, match="Bad address"):
        other.memory.write(address, b"12345678")


@pytest.mark.parametrize("page", [2, 3])
def test_what_the_program_may_not_read_is_efault(other: Other, page: int) -> None:
    with pytest.raises(OSError, match="Bad address"):
        other.memory.read(other.at + page * 4096 - 1, 2)


def test_what_is_not_mapped_is_asked_about_once(other: Other) -> None:
    """It was for each byte: a read into such memory took seconds."""

    class Counting(Mappings):
        asked = 0

        def at(self, thread: int, address: int, flag: int) -> tuple[int, int, int] | None:
            self.asked += 1
            return super().at(thread, address, flag)

    mappings = Counting()
    memory = ProcessMemory(other.process.pid, mappings)
    with pytest.raises(OSError, match="Bad address"):
        memory.write(1 << 46, bytes(1 << 20))
    memory.close()
    assert mappings.asked == 1


def test_a_killed_process_has_no_memory(other: Other) -> None:
    """A zombie has none any more, as one whose other threads still end."""
    other.process.kill()
    os.waitid(os.P_PID, other.process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(OSError, match="Bad address"):
        other.memory.write(other.at, bytes(4096))
