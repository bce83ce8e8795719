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


class ProcmapQuery(NamedTuple):
    size: int
    query_flags: int
    query_addr: int
    vma_start: int
    vma_end: int
    vma_flags: int
    vma_page_size: int
    vma_offset: int
    inode: int
    dev_major: int
    dev_minor: int
    vma_name_size: int
    build_id_size: int
    vma_name_addr: int
    build_id_addr: int


PROCMAP = Layout(ProcmapQuery, "struct procmap_query", FS_H, "QQQQQQQQQIIIIQQ")
