"""Notification of system calls (linux/seccomp.h)."""

from enum import IntEnum
from typing import NamedTuple

from qmptests.vfio.abi.layout import SECCOMP_H, Layout


class Seccomp(IntEnum):
    """Requests on a listener (linux/seccomp.h)."""

    NOTIF_RECV = 0xC0502100
    NOTIF_SEND = 0xC0182101
    NOTIF_ID_VALID = 0x40082102
    NOTIF_ADDFD = 0x40182103
    NOTIF_SET_FLAGS = 0x40082104


class Notification(NamedTuple):
    """`struct seccomp_notif` with its `struct seccomp_data`: what a thread called."""

    id: int
    pid: int
    flags: int
    nr: int
    arch: int
    instruction_pointer: int
    arg0: int
    arg1: int
    arg2: int
    arg3: int
    arg4: int
    arg5: int


NOTIFICATION = Layout(Notification, "struct seccomp_notif", SECCOMP_H, "QIIiIQQQQQQQ")


class Response(NamedTuple):
    id: int
    val: int
    error: int
    flags: int


RESPONSE = Layout(Response, "struct seccomp_notif_resp", SECCOMP_H, "QqiI")


class AddFd(NamedTuple):
    id: int
    flags: int
    srcfd: int
    newfd: int
    newfd_flags: int


ADDFD = Layout(AddFd, "struct seccomp_notif_addfd", SECCOMP_H, "QIIII")

#: Let the kernel do the call after all (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
NOTIF_CONTINUE = 1 << 0
#: Put the descriptor on the number that is asked for (SECCOMP_ADDFD_FLAG_SETFD).
ADDFD_SETFD = 1 << 0
#: Linux 6.6: wake the caller on the answering CPU (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP).
NOTIF_SYNC_WAKE_UP = 1 << 0
