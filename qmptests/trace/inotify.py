"""Wakes up when a file grows: inotify, which the standard library lacks, through ctypes."""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from qmptests.errors import EnvironmentFailure

# From linux/inotify.h.
_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100


class FileWatch:
    """A descriptor that is readable after `path` was created, moved into place or written to.

    Raises:
        EnvironmentFailure: the kernel refuses another watch, or the folder does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise self._failure(ctypes.get_errno())
        self._on_file = False
        try:
            # First the folder, then the file: it can't appear unseen in between.
            if not self._watch_file():
                self._add(path.parent, _IN_CREATE | _IN_MOVED_TO)
                self._watch_file()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return int(self._fd)

    def drain(self) -> None:
        """Take what was reported; what it was does not matter, the file says it better."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 65536)  # what is left makes the descriptor readable again
        if not self._on_file:
            self._watch_file()

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _watch_file(self) -> bool:
        self._on_file = self._add(self._path, _IN_MODIFY, missing_ok=True)
        return self._on_file

    def _add(self, path: Path, mask: int, *, missing_ok: bool = False) -> bool:
        if self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask) >= 0:
            return True
        code = ctypes.get_errno()
        if missing_ok and code == errno.ENOENT:
            return False
        raise self._failure(code)

    def _failure(self, code: int) -> EnvironmentFailure:
        advice = ""
        if code in {errno.EMFILE, errno.ENOSPC}:
            advice = "; raise fs.inotify.max_user_instances and max_user_watches"
        return EnvironmentFailure(f"can't watch {self._path}: {os.strerror(code)}{advice}")
