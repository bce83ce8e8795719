"""System calls that Python has no function for. Each raises OSError with the kernel's errno."""

import ctypes
import errno
import os

from qmptests.vfio import abi_filter, arch

PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_KCMP = arch.current().kcmp
_KCMP_FILE = 0
_OURSELVES = os.getpid
_fallocate = _libc.fallocate64
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int) -> None:
    """prctl(2)."""
    _checked(_prctl(option, value, 0, 0, 0), f"prctl({option})")


def listen(program: bytes) -> int:
    """Put this thread under a seccomp filter; returns the listener (seccomp(2)).

    A signal that comes to a thread whose call has been received only interrupts it if it is fatal
    (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19), so no call is made twice.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    flags = abi_filter.FILTER_NEW_LISTENER | abi_filter.FILTER_WAIT_KILLABLE_RECV
    filter_ = _Program(len(program) // 8, program)
    number = ctypes.c_long(arch.current().seccomp)
    return _checked(
        _syscall(
            number,
            ctypes.c_uint(abi_filter.SET_MODE_FILTER),
            ctypes.c_uint(flags),
            ctypes.byref(filter_),
        ),
        "seccomp",
    )


def filesystem_of(descriptor: int) -> int:
    """What kind of filesystem an open file is of (fstatfs(2), f_type)."""
    buffer = (ctypes.c_long * 64)()
    _checked(_libc.fstatfs64(descriptor, buffer), "fstatfs")
    return buffer[0]


def take_descriptor(pidfd: int, descriptor: int) -> int:
    """A duplicate of another process's descriptor (pidfd_getfd(2)), which must be ours to trace."""
    number = ctypes.c_long(arch.current().pidfd_getfd)
    return _checked(
        _syscall(number, ctypes.c_int(pidfd), ctypes.c_int(descriptor), ctypes.c_uint(0)),
        "pidfd_getfd",
    )


def same_file(own: int, thread: int, number: int) -> int:
    """Whether that descriptor of a thread's is the very open file that `own` is of ours (kcmp(2)).

    0 if it is, more if it is another, -1 if it is not open.
    """
    differs: int = _syscall(_KCMP, _OURSELVES(), thread, _KCMP_FILE, own, number)
    if differs < 0 and (error := ctypes.get_errno()) != errno.EBADF:
        raise OSError(error, f"kcmp: {os.strerror(error)}")
    return differs


def fallocate(descriptor: int, mode: int, start: int, length: int) -> None:
    """fallocate(2), which Python has without its modes only."""
    _checked(_fallocate(descriptor, mode, start, length), "fallocate")
