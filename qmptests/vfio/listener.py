"""The listening end of a seccomp filter: receive a call and answer it (seccomp_unotify(2))."""

import contextlib
import errno
import fcntl
import os
import struct

from qmptests.vfio import abi

_NOTHING = bytes(abi.NOTIFICATION.size)
_RESPONSE = struct.Struct("<" + abi.RESPONSE.codes)
_RECV, _SEND, _VALID, _ADDFD = (
    int(request)
    for request in (
        abi.Seccomp.NOTIF_RECV,
        abi.Seccomp.NOTIF_SEND,
        abi.Seccomp.NOTIF_ID_VALID,
        abi.Seccomp.NOTIF_ADDFD,
    )
)


class Gone(Exception):
    """Who made the call is dead; nobody waits for an answer."""


class Listener:
    """One listener. Poll `fd` for reading before `receive`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._killed = contextlib.suppress(FileNotFoundError)  # ENOENT: its thread was
        with contextlib.suppress(OSError):  # before Linux 6.6 it is only slower
            fcntl.ioctl(fd, abi.Seccomp.NOTIF_SET_FLAGS, abi.NOTIF_SYNC_WAKE_UP)

    def receive(self) -> abi.Notification:
        """The next call. Raises Gone if its thread died meanwhile."""
        try:
            return abi.NOTIFICATION.unpack(fcntl.ioctl(self.fd, _RECV, _NOTHING))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                raise Gone from error
            raise

    def answer(self, identity: int, value: int = 0, number: int = 0) -> None:
        """Let the call return `value`, or fail with errno `number`."""
        self._send(_RESPONSE.pack(identity, value, -number, 0))

    def let_the_kernel(self, identity: int) -> None:
        """Let the kernel do the call as if there were no filter."""
        self._send(_RESPONSE.pack(identity, 0, 0, abi.NOTIF_CONTINUE))

    def _send(self, response: bytes) -> None:
        with self._killed:
            fcntl.ioctl(self.fd, _SEND, response)

    def check(self, identity: int) -> None:
        """Raise Gone unless the call still waits: its process's memory may be somebody else's."""
        try:
            fcntl.ioctl(self.fd, _VALID, identity.to_bytes(8, "little"))
        except FileNotFoundError as error:
            raise Gone from error

    def add(self, identity: int, descriptor: int, *, cloexec: bool) -> int:
        """Install our `descriptor` in the calling process; its number there, the lowest free one.

        Raises OSError (EMFILE).
        """
        flags = os.O_CLOEXEC if cloexec else 0
        request = abi.ADDFD.pack(abi.AddFd(identity, 0, descriptor, 0, flags))
        try:
            return int(fcntl.ioctl(self.fd, _ADDFD, bytearray(request)))
        except FileNotFoundError as error:
            raise Gone from error

    def give(self, identity: int, descriptor: int, number: int, *, cloexec: bool = True) -> None:
        """Install our `descriptor` in the calling process as `number`, closed on its exec or not.

        Raises OSError (EBADF) if the process may have no descriptor of such a number.
        """
        flags = os.O_CLOEXEC if cloexec else 0
        request = abi.AddFd(identity, abi.ADDFD_SETFD, descriptor, number, flags)
        try:
            fcntl.ioctl(self.fd, _ADDFD, abi.ADDFD.pack(request))
        except FileNotFoundError as error:
            raise Gone from error
