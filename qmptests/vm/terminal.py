"""The user's terminal, lent to a debugger that a QEMU runs under.

The launcher's processes have no terminal of their own and no standard input, in which `gdb` would
find its end at once.
"""

import contextlib
import os
import termios
from collections.abc import Iterator


def open_terminal(flags: int = os.O_RDWR) -> int | None:
    """A descriptor of our controlling terminal; None without one (a CI job)."""
    with contextlib.suppress(OSError):
        return os.open("/dev/tty", flags | os.O_NOCTTY | os.O_CLOEXEC)
    return None


@contextlib.contextmanager
def lent(wanted: bool) -> Iterator[dict[int, int]]:
    """What a child's standard input and output should be: the terminal, or {} without one."""
    fd = open_terminal() if wanted else None
    try:
        yield {} if fd is None else {0: fd, 1: fd}
    finally:
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def restored(wanted: bool) -> Iterator[None]:
    """Give the terminal its settings back at the end: a debugger that is killed doesn't."""
    fd = open_terminal() if wanted else None
    if fd is None:
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        yield
    finally:
        if termios.tcgetattr(fd) != before:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        os.close(fd)
