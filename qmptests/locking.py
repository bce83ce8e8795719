"""Locks between processes: who waits says for whom, and not for ever."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from qmptests import dirs, printable
from qmptests.errors import EnvironmentFailure

#: Seconds until a lock that is not had is an error; the longest that is held is a download.
DEADLINE_S = 600.0
_INTERVAL_S = 0.05


@contextlib.contextmanager
def held(
    path: Path, what: str, progress: Callable[[str], None], deadline_s: float = DEADLINE_S
) -> Iterator[int]:
    """Hold the lock file at `path`, in the cache, which guards `what`; yields its descriptor.

    It ends with the process and what inherited the descriptor, so it is never stale. `progress`
    gets a line if it is another's. Raises EnvironmentFailure if that one doesn't let go of it, and
    OSError where the file can't be made.
    """
    dirs.make_in_cache(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _take(descriptor, path, what, progress, deadline_s)
        # Who waits reads it; a full disk takes only the name from the line.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(
    descriptor: int, path: Path, what: str, progress: Callable[[str], None], deadline_s: float
) -> None:
    deadline = time.monotonic() + deadline_s
    told = False
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = _holder(descriptor)
        if time.monotonic() >= deadline:
            raise EnvironmentFailure(
                f"{what} is locked by {holder} since {deadline_s:g} s: wait for it or end it, then "
                f"try again ({path})"
            )
        if not told:
            progress(f"waiting for {holder}, which has locked {what}")
            told = True
        time.sleep(_INTERVAL_S)


def _holder(descriptor: int) -> str:
    """Who holds it, in words; what a process wrote that is gone says nothing."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(os.pread(descriptor, 32, 0))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        command = printable.unwrapped(b" ".join(words).decode(errors="replace"))
        if command:
            return f"process {pid} ({command[:80]})"
    return "another process"
