"""What is mapped for devices: a process's memory, or a file of its.

Both are held as the kernel holds them: the memory is that of the program that ran when it was
mapped, and a file stays though the process closes its descriptor. Which pages can be pinned is in
`pinning`.
"""

import ctypes
import errno
import fcntl
import os
import resource
import stat
from collections.abc import Callable, Iterable, Mapping

from qmptests.vfio import abi, pinning, syscalls
from qmptests.vfio.memory import ProcessMemory
from qmptests.vfio.pinning import Area

#: linux/magic.h: what memfd, tmpfs and hugetlbfs are.
_TMPFS, _HUGETLBFS = 0x01021994, 0x958458F6
#: Bytes that a mapping's name may have: a longer one is ENAMETOOLONG.
_NAME = 4096
#: Programs whose memory stays open though nothing maps it, to be mapped once more.
_MOST_PROGRAMS = 8
#: Descriptors that are left for all else.
_SPARED = 256
#: Device and inode of a file (stat(2)).
Identity = tuple[int, int]


def identity_of(descriptor: int) -> Identity:
    """Of the file that an open descriptor is."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class ProcessSource:
    """The memory of the program that `process` runs. Offsets are addresses.

    `memory` is closed with it. `devices`: files whose mappings are a device's registers, which no
    other device can reach. Raises OSError if there is no such process, ENOMEM as `Sources` does.
    """

    is_file = False

    def __init__(
        self, memory: ProcessMemory, process: int, devices: frozenset[Identity] = frozenset()
    ) -> None:
        self._maps = -1
        self._memory = memory
        self._process = process
        self._devices = devices
        self.program = program_of(process)
        self._maps = os.open(f"/proc/{process}/maps", os.O_RDONLY | os.O_CLOEXEC)
        spare(self._maps)
        self.read = memory.read
        self.write = memory.write

    def pin(self, offset: int, length: int, *, writable: bool) -> None:
        """See to it that a device could reach these bytes. Raises OSError (EFAULT) if not."""
        end = offset + length
        try:
            areas = areas_of(self._maps, offset, end)
            mounts = pinning.Mounts(self._mountinfo)
            pinning.check(areas, offset, end, self._devices, mounts, writable=writable)
        except ProcessLookupError as error:
            raise OSError(errno.EFAULT, "the program has ended") from error
        for area in areas:
            if area.inode:  # a file may end before its mapping does
                self.read(min(area.end, end) - 1, 1)

    def _mountinfo(self) -> bytes:
        with open(f"/proc/{self._process}/mountinfo", "rb") as file:
            found = file.read()
        if program_of(self._process) != self.program:
            raise ProcessLookupError("another process has its number")
        return found

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        self._memory.close()
        if self._maps >= 0:
            close(self._maps)


def areas_of(maps: int, start: int, end: int) -> list[Area]:
    """The mappings that cover those addresses, up to the first gap; `maps` is a descriptor of
    /proc/PID/maps. Raises OSError: ProcessLookupError if the program has ended.

    Each is asked for, which takes some microseconds: the text of all of QEMU's takes 400.
    """
    found = []
    at = start
    while at < end:
        try:
            area = _area_at(maps, at)
        except OSError as error:
            if error.errno == errno.ENOTTY:  # before Linux 6.11
                return pinning.areas(_text(maps), start, end)
            if error.errno == errno.ENOENT:
                break
            raise
        found.append(area)
        at = area.end
    return found


def _area_at(maps: int, address: int) -> Area:
    name = (ctypes.c_char * _NAME)()
    query = abi.ProcmapQuery(
        abi.PROCMAP.size, 0, address, vma_name_size=_NAME, vma_name_addr=ctypes.addressof(name)
    )
    found = abi.PROCMAP.unpack(fcntl.ioctl(maps, abi.PROCMAP_QUERY, abi.PROCMAP.pack(query)))
    device = found.dev_major, found.dev_minor
    return Area(found.vma_start, found.vma_end, found.vma_flags, device, found.inode, name.value)


def _text(maps: int) -> bytes:
    os.lseek(maps, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(maps, 1 << 16), b""))


def program_of(process: int) -> bytes:
    """What tells the program that a process runs from any other, of any process (proc(5), `stat`:
    when the process began, and where its stack does). Raises OSError if there is no such process.
    """
    with open(f"/proc/{process}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return b" ".join((b"%d" % process, fields[19], fields[25]))


class FileSource:
    """A file by a descriptor of ours, which is closed with it. `dma_buf`: a device's registers."""

    def __init__(self, descriptor: int, *, dma_buf: bool = False) -> None:
        self._fd = descriptor
        self.is_file = not dma_buf
        spare(descriptor)

    def pin(self, offset: int, length: int, *, writable: bool) -> None:  # noqa: ARG002
        """Raises OSError (EINVAL) for a file that is no memory, and past its end
        (memfd_pin_folios). A device's registers need no pinning.
        """
        if not self.is_file:
            return
        if not is_memory(self._fd):
            raise OSError(errno.EINVAL, "neither a memfd nor of tmpfs or hugetlbfs")
        if offset + length > os.fstat(self._fd).st_size:
            raise OSError(errno.EINVAL, "past the end of the file")

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes, as many as there are. Raises OSError."""
        return os.pread(self._fd, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Put them there. Raises OSError, also if it was opened for reading alone."""
        os.pwrite(self._fd, data, offset)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._fd)


def is_memory(descriptor: int) -> bool:
    """Whether it is a memfd or a regular file of tmpfs or hugetlbfs: all its pages are memory."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    return syscalls.filesystem_of(descriptor) in (_TMPFS, _HUGETLBFS)


class Sources:
    """Takes hold of what a call maps, as long as there are descriptors for it: OSError (ENOMEM).

    `devices`: the files that are devices' registers, which QEMU maps; `dma_bufs`: those that stand
    for a part of them, which it got from a device, with the errno that they can't be mapped with.
    """

    def __init__(
        self, devices: Iterable[int], dma_bufs: Mapping[Identity, Callable[[], int]]
    ) -> None:
        self._devices = frozenset(map(identity_of, devices))
        self._dma_bufs = dma_bufs
        self._programs: dict[bytes, ProcessSource] = {}

    def memory(self, memory: ProcessMemory, process: int) -> ProcessSource:
        """`memory`, of the program that `process` runs, for longer than it is open. Raises OSError
        if that has ended.
        """
        program = program_of(process)
        source = self._programs.get(program)
        if source is None:
            if len(self._programs) >= _MOST_PROGRAMS:
                del self._programs[next(iter(self._programs))]
            source = ProcessSource(memory.keep(), process, self._devices)
            self._programs[program] = source
        return source

    def file(self, descriptor: int, end: int) -> FileSource:
        """A descriptor of ours, which is the source's from now on. Raises OSError: EBADF if it was
        opened with O_PATH; EINVAL for registers that end before `end`; what they refuse.
        """
        refusal = self._dma_bufs.get(identity_of(open_file(descriptor)))
        source = FileSource(descriptor, dma_buf=refusal is not None)
        if refusal is None:
            return source
        if end > os.fstat(descriptor).st_size:
            raise OSError(errno.EINVAL, "past the end of the registers")
        if number := refusal():
            raise OSError(number, "these registers can't be mapped now")
        return source


def spare(descriptor: int) -> None:
    """Raise OSError (ENOMEM) if that is one of the last: calls need some to be answered at all."""
    if descriptor > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARED:
        raise OSError(errno.ENOMEM, "too much is held open")


def open_file(descriptor: int) -> int:
    """The descriptor, unless it was opened with O_PATH: that one is closed, and OSError (EBADF)
    raised, as the kernel does it with what is no open file.
    """
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_PATH:
        os.close(descriptor)
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return descriptor
