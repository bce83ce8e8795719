"""Numbers of system calls, which differ between processors.

From the kernel's asm/unistd_64.h (x86-64), asm-generic/unistd.h (aarch64) and linux/audit.h;
`tests/vfio/test_abi.py` compares them.
"""

import errno
import os
from typing import NamedTuple


class Arch(NamedTuple):
    """A processor: its AUDIT_ARCH_* number, by which a seccomp filter knows it, and its calls."""

    name: str
    audit: int
    ioctl: int
    read: int
    write: int
    pread64: int
    pwrite64: int
    dup: int
    fcntl: int
    mmap: int
    lseek: int
    ftruncate: int
    fallocate: int
    kcmp: int
    seccomp: int
    pidfd_getfd: int


X86_64 = Arch(
    name="x86_64",
    audit=0xC000003E,
    ioctl=16,
    read=0,
    write=1,
    pread64=17,
    pwrite64=18,
    dup=32,
    fcntl=72,
    mmap=9,
    lseek=8,
    ftruncate=77,
    fallocate=285,
    kcmp=312,
    seccomp=317,
    pidfd_getfd=438,
)

AARCH64 = Arch(
    name="aarch64",
    audit=0xC00000B7,
    ioctl=29,
    read=63,
    write=64,
    pread64=67,
    pwrite64=68,
    dup=23,
    fcntl=25,
    mmap=222,
    lseek=62,
    ftruncate=46,
    fallocate=47,
    kcmp=272,
    seccomp=277,
    pidfd_getfd=438,
)


def current() -> Arch:
    """The processor of this machine; OSError (ENOSYS) if it is neither of the two."""
    machine = os.uname().machine
    for arch in (X86_64, AARCH64):
        if arch.name == machine:
            return arch
    raise OSError(
        errno.ENOSYS,
        f"VFIO emulation knows the system calls of x86_64 and aarch64, and this is {machine}",
    )
