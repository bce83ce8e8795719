"""What a process's mappings allow (linux/fs.h)."""

from enum import IntFlag
from typing import NamedTuple

from qmptests.vfio.abi.layout import FS_H, Layout

#: A request on /proc/PID/maps, since Linux 6.11.
PROCMAP_QUERY = 0xC0686611


class ProcmapFlag(IntFlag):
    """What may be done with a mapping."""

    READABLE = 1 << 0
    WRITABLE = 1 << 1
    SHARED = 1 << 3


class ProcmapQuery(NamedTuple):
    size: int
    query_flags: int
    query_addr: int
    vma_start: int = 0
    vma_end: int = 0
    vma_flags: int = 0
    vma_page_size: int = 0
    vma_offset: int = 0
    inode: int = 0
    dev_major: int = 0
    dev_minor: int = 0
    vma_name_size: int = 0
    build_id_size: int = 0
    vma_name_addr: int = 0
    build_id_addr: int = 0


PROCMAP = Layout(ProcmapQuery, "struct procmap_query", FS_H, "QQQQQQQQQIIIIQQ")
