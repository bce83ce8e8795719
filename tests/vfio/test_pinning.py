"""Which pages a kernel would pin: the rules on made up mappings, and this process's own."""

import errno
import fcntl
import mmap
import os

import pytest

from qmptests.vfio import abi, pinning, sources
from qmptests.vfio.memory import ProcessMemory
from qmptests.vfio.pinning import Area, Mounts
from qmptests.vfio.sources import FileSource, ProcessSource, Sources, identity_of
from tests.vfio.test_dma import ctypes_address

PAGE = 4096
MAPS = b"""\
1000-3000 rw-p 00000000 00:00 0
3000-4000 r--p 00000000 00:00 0                          [heap]
4000-5000 ---p 00000000 00:00 0
5000-6000 rw-s 00000000 fe:00 42                         /disk/a b
6000-7000 rw-s 00000000 00:01 77                         /memfd:ram (deleted)
7000-8000 rw-p 00000000 fe:00 42                         /disk/a b
8000-9000 rw-s 00000000 00:01 5                          /memfd:vfio-vf0 (deleted)
9000-a000 r--p 00000000 00:00 0                          [vvar]
b000-c000 rw-s 00000000 00:17 9                          /dev/shm/ram
c000-d000 rw-s 00000000 00:2a 9                          /share/ram
d000-e000 r--s 00000000 fe:00 42                         /disk/a b
"""
MOUNTS = b"""\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
25 24 0:23 / /dev/shm rw,relatime shared:3 - tmpfs tmpfs rw,size=1k
26 24 0:42 / /share rw - 9p host rw
"""
REGISTERS = frozenset({(os.makedev(0, 1), 5)})


def refusal(start: int, end: int, *, writable: bool) -> str:
    """The reason, or ""."""
    mounts = Mounts(lambda: MOUNTS)
    found = pinning.areas(MAPS, start, end)
    try:
        pinning.check(found, start, end, REGISTERS, mounts, writable=writable)
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]} {error.strerror}"
    return ""


@pytest.mark.parametrize(
    ("start", "end", "to_read", "to_write"),
    [
        (0x1000, 0x3000, "", ""),
        (0x1800, 0x1900, "", ""),
        (0x0, 0x2000, "nothing is mapped at 0x0", "nothing is mapped at 0x0"),
        (0x3000, 0x4000, "", "can't be written"),
        (0x2000, 0x4000, "", "0x3000: it can't be written"),
        (0x4000, 0x5000, "can't be read", "can't be written"),
        (0x5000, 0x6000, "", "written back"),
        (0x6000, 0x8000, "", ""),
        (0x8000, 0x9000, "no memory", "no memory"),
        (0x9000, 0xA000, "no memory", "no memory"),
        (0x9000, 0xC000, "no memory", "no memory"),
        (0xB000, 0xC000, "", ""),
        (0xC000, 0xD000, "", "written back"),
        (0xD000, 0xE000, "", "can't be written"),
        (0xD000, 0xF000, "nothing is mapped at 0xe000", "can't be written"),
        (0xA000, 0xC000, "nothing is mapped at 0xa000", "nothing is mapped at 0xa000"),
    ],
)
def test_what_can_be_pinned(start: int, end: int, to_read: str, to_write: str) -> None:
    for writable, expected in ((False, to_read), (True, to_write)):
        found = refusal(start, end, writable=writable)
        assert found.startswith("EFAULT") and expected in found if expected else not found


def test_mounts_are_looked_at_for_a_shared_file_alone() -> None:
    def never() -> bytes:
        raise AssertionError

    found = pinning.areas(MAPS, 0x1000, 0x3000)
    pinning.check(found, 0x1000, 0x3000, REGISTERS, Mounts(never), writable=True)


def test_a_line_of_maps_is_read_whole() -> None:
    read, shared = abi.ProcmapFlag.READABLE, abi.ProcmapFlag.SHARED
    assert pinning.areas(MAPS, 0xD800, 0xD801) == [
        Area(0xD000, 0xE000, read | shared, (254, 0), 42, b"/disk/a b")
    ]


@pytest.fixture
def own() -> ProcessSource:
    """This process's memory."""
    return ProcessSource(ProcessMemory(os.getpid()), os.getpid())


def test_the_kernel_is_asked_or_its_text_is_read(
    own: ProcessSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.11 there is the text alone. Both say the same."""
    memory = mmap.mmap(-1, 2 * PAGE)
    at = ctypes_address(memory)
    asked = sources.areas_of(own._maps, at, at + 2 * PAGE)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTTY, "no such request")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert sources.areas_of(own._maps, at, at + 2 * PAGE) == asked
    assert asked[0].start <= at < asked[0].end
    assert asked[0].flags & abi.ProcmapFlag.SHARED
    own.pin(at, 2 * PAGE, writable=True)


def test_a_file_that_ends_before_its_mapping_is_not_pinned(own: ProcessSource) -> None:
    file = os.memfd_create("short")
    os.truncate(file, 2 * PAGE)
    memory = mmap.mmap(file, 2 * PAGE)
    at = ctypes_address(memory)
    own.pin(at, 2 * PAGE, writable=True)
    os.truncate(file, PAGE)
    own.pin(at, PAGE, writable=True)
    with pytest.raises(OSError, match="Bad address") as caught:
        own.pin(at, 2 * PAGE, writable=True)
    assert caught.value.errno == errno.EFAULT
    os.close(file)


def test_registers_that_are_mapped_are_not_pinned() -> None:
    file = os.memfd_create("registers")
    os.truncate(file, PAGE)
    memory = mmap.mmap(file, PAGE)
    taken = Sources([file], {}).memory(ProcessMemory(os.getpid()), os.getpid())
    with pytest.raises(OSError, match="no memory"):
        taken.pin(ctypes_address(memory), PAGE, writable=False)
    os.close(file)


def test_the_memory_of_a_program_is_held_once() -> None:
    held = Sources([], {})
    memory = ProcessMemory(os.getpid())
    first = held.memory(memory, os.getpid())
    assert held.memory(memory, os.getpid()) is first
    memory.close()
    mapped = mmap.mmap(-1, PAGE)
    assert first.read(ctypes_address(mapped), 8) == bytes(8)


def test_a_file_is_held_until_nothing_maps_it() -> None:
    file = os.memfd_create("memory")
    os.truncate(file, PAGE)
    source = Sources([], {}).file(os.dup(file), PAGE)
    source.write(8, b"x")
    assert os.pread(file, 1, 8) == b"x"
    number = source._fd
    del source
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    os.close(file)


def test_a_dma_buf_is_no_file_and_has_an_end() -> None:
    file = os.memfd_create("registers")
    os.truncate(file, PAGE)
    refusals = [0, 0, errno.ENODEV]
    held = Sources([], {identity_of(file): lambda: refusals.pop(0)})
    source = held.file(os.dup(file), PAGE)
    assert not source.is_file
    source.pin(0, PAGE, writable=True)
    with pytest.raises(OSError, match="past the end") as caught:
        held.file(os.dup(file), PAGE + 1)
    assert caught.value.errno == errno.EINVAL
    held.file(os.dup(file), PAGE)
    with pytest.raises(OSError, match="now") as caught:
        held.file(os.dup(file), PAGE)
    assert caught.value.errno == errno.ENODEV
    os.close(file)


def test_a_file_that_can_not_be_pinned_is_told_from_one_that_can() -> None:
    file = os.memfd_create("memory")
    os.truncate(file, PAGE)
    FileSource(os.dup(file)).pin(0, PAGE, writable=True)
    reader, writer = os.pipe()
    for descriptor, length in ((file, PAGE + 1), (reader, PAGE), (writer, PAGE)):
        with pytest.raises(OSError, match=r"past the end|neither") as caught:
            FileSource(os.dup(descriptor)).pin(0, length, writable=False)
        assert caught.value.errno == errno.EINVAL
    for descriptor in (file, reader, writer):
        os.close(descriptor)
