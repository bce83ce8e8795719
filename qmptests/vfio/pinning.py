"""Which of a process's pages a kernel pins for a device, from what /proc says of its mappings.

Source: check_vma_flags, writable_file_mapping_allowed and vma_needs_dirty_tracking of Linux 7.3
(mm/gup.c, mm/vma.c), with the flags that iommufd's pfn_reader_user_init uses. Pure.
"""

import errno
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from qmptests.vfio.abi import ProcmapFlag

_FLAGS = {
    ord("r"): ProcmapFlag.READABLE,
    ord("w"): ProcmapFlag.WRITABLE,
    ord("s"): ProcmapFlag.SHARED,
}
#: Filesystems that never write a page back: a device may write to their pages.
_MEMORY = frozenset({b"tmpfs", b"devtmpfs", b"hugetlbfs", b"ramfs"})


class Area(NamedTuple):
    """What /proc says of a mapping. `flags`: those of `ProcmapFlag`; `device`: major and minor of
    the file's filesystem; `inode`: 0 for what is no file; `name`: its path, or such as b"[vvar]".
    """

    start: int
    end: int
    flags: int
    device: tuple[int, int]
    inode: int
    name: bytes


class Mounts:
    """Kinds of filesystems by device; `read` has /proc/PID/mountinfo, and is asked once if ever."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._kinds: dict[bytes, bytes] | None = None

    def kind(self, device: tuple[int, int]) -> bytes:
        """Such as b"ext4". The kernel's own mounts, which are of memory, are in no list: tmpfs."""
        if self._kinds is None:
            self._kinds = {}
            for line in self._read().splitlines():
                mount, _, filesystem = line.partition(b" - ")
                self._kinds[mount.split(b" ", 3)[2]] = filesystem.split(b" ", 1)[0]
        return self._kinds.get(b"%d:%d" % device, b"" if device[0] else b"tmpfs")


def areas(maps: bytes, start: int, end: int) -> list[Area]:
    """From the text of /proc/PID/maps: mappings that have a byte from `start` to below `end`."""
    found = []
    for line in maps.splitlines():
        extent, rest = line.split(b" ", 1)
        first, _, last = extent.partition(b"-")
        if int(last, 16) <= start:
            continue
        if int(first, 16) >= end:
            break
        fields = rest.split(None, 4)
        major, _, minor = fields[2].partition(b":")
        flags = sum(_FLAGS.get(letter, 0) for letter in fields[0])
        device = int(major, 16), int(minor, 16)
        name = fields[4] if len(fields) > 4 else b""
        found.append(Area(int(first, 16), int(last, 16), flags, device, int(fields[3]), name))
    return found


def check(
    found: Iterable[Area],
    start: int,
    end: int,
    devices: frozenset[tuple[int, int]],
    mounts: Mounts,
    *,
    writable: bool,
) -> None:
    """Raise OSError (EFAULT) unless all pages from `start` to below `end` can be pinned.

    `devices`: st_dev and st_ino of what stands for a device's registers.
    """
    reached = start
    for area in found:
        if area.start > reached:
            break
        if why := _refused(area, devices, mounts, writable=writable):
            raise OSError(errno.EFAULT, f"{area.start:#x}: {why}")
        reached = area.end
    if reached < end:
        raise OSError(errno.EFAULT, f"nothing is mapped at {reached:#x}")


def _refused(
    area: Area, devices: frozenset[tuple[int, int]], mounts: Mounts, *, writable: bool
) -> str:
    """Why its pages can't be pinned, or ""."""
    identity = os.makedev(*area.device), area.inode
    if area.name.startswith((b"[vvar", b"[vsyscall")) or identity in devices:
        return "a device's, no memory"
    if not writable:
        return "" if area.flags & ProcmapFlag.READABLE else "it can't be read"
    if not area.flags & ProcmapFlag.WRITABLE:
        return "it can't be written"
    if area.flags & ProcmapFlag.SHARED and area.inode and mounts.kind(area.device) not in _MEMORY:
        return "a shared mapping of a file that would have to be written back"
    return ""
