"""Ending all that descends from this process, for a child subreaper (prctl(2)) at its own end.

Standard library only: launcher and supervisor use it.
"""

import contextlib
import os
import signal
import time

from qmptests import printable

#: Seconds for what was killed to be gone.
KILLED_S = 10.0
#: Seconds for what may not be killed to end by itself: `sudo` does, once its command is dead.
SPARED_S = 2.0
#: Seconds between two looks: the end of a grandchild is not told.
LOOK_S = 0.05
#: Of a child that /proc does not show (`hidepid` in proc(5)).
UNSEEN = "a process of another user still runs: it is hidden, and may not be killed"


def end_descendants() -> list[str]:
    """SIGKILL and reap until nothing is left that descends from this process.

    Returns what withstood, a line each: programs of other users, which may not be killed, and
    those that the kernel doesn't let go. SIGCHLD stays blocked afterwards.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    deadline = time.monotonic() + KILLED_S
    only_spared = 0.0  # since when nobody else is left
    while _reap():
        living, dead = descendants_of(os.getpid())
        spared = {pid for pid in living | dead if not kill(pid)} & living  # of the dead: threads
        now = time.monotonic()
        only_spared = (only_spared or now) if living and living == spared else 0.0
        if now > deadline or (only_spared and now - only_spared > SPARED_S):
            return [described(pid, spared) for pid in sorted(living)] or [UNSEEN]
        signal.sigtimedwait({signal.SIGCHLD}, LOOK_S)
    return []


def kill(pid: int) -> bool:
    """SIGKILL a process; False if it is another user's, and this one may not."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def _reap() -> bool:
    """Collect every child that has ended; False if there is no other one."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def descendants_of(ancestor: int) -> tuple[set[int], set[int]]:
    """The pids of all descendants, living and dead, from /proc (proc(5): `stat`)."""
    parents: dict[int, int] = {}
    dead = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
                parents[int(entry)] = int(parent)
                if state in (b"Z", b"X"):
                    dead.add(int(entry))
    found: set[int] = set()
    generation = {ancestor}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation} - found
        found |= generation
    return found - dead, found & dead


def described(pid: int, spared: set[int]) -> str:
    """What is left of us, in one line: its program, its number, its user, and why it is left."""
    program, user = "?", "?"
    with contextlib.suppress(OSError):
        user = str(os.stat(f"/proc/{pid}").st_uid)
        for file in ("comm", "cmdline"):  # the latter is empty in the middle of an exec
            with open(f"/proc/{pid}/{file}", "rb") as stream:
                program = os.fsdecode(stream.read().partition(b"\0")[0].rstrip(b"\n")) or program
    why = f"it is user {user}'s, and may not be killed" if pid in spared else "it does not die"
    return f"{printable.one_line(program)} (pid {pid}) still runs: {why}"
