"""Processes whose launcher is dead: found by what it put into their environment, and killed."""

import contextlib
import os
import signal
import sys
import time

from qmptests import printable, reaping

#: In the environment of every process that we start: strays are found by it, never by name.
MARKER = "QMPTESTS_RUN"
#: The same for one process, and what it starts.
PROCESS_MARKER = "QMPTESTS_PROCESS"
#: Seconds for which strays are hunted.
STRAYS_S = 5.0
#: Seconds for which the end of somebody's exec is waited for.
EXEC_S = 2.0


def kill_strays(marker: str, variable: str = MARKER) -> list[int]:
    """SIGKILL every process whose environment has our marker, but not this one; their pids.

    Looks again until it finds none, since one may have forked while the list was read. One that
    is in the middle of an exec has no environment to look at: that is waited for. One that may not
    be killed is named on standard error.
    """
    entry = f"{variable}={marker}".encode()
    killed: set[int] = set()
    spared: set[int] = set()
    now = time.monotonic()
    deadline, last_seen = now + STRAYS_S, now
    while now < deadline:
        of_run, in_exec = _with_environment(entry)
        of_run -= {os.getpid(), *spared}
        spared |= {pid for pid in of_run if not _kill(pid, entry)}
        killed |= of_run - spared
        now = time.monotonic()
        if of_run:
            last_seen = now
        elif not in_exec or now > last_seen + EXEC_S:
            break
        else:
            time.sleep(0.001)
    for pid in sorted(spared):
        complain(reaping.described(pid, spared))
    return sorted(killed)


def _kill(pid: int, entry: bytes) -> bool:
    """SIGKILL it, unless the number is another process's by now; False if this user may not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if entry in (_environment(str(pid)) or b"").split(b"\0"):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    finally:
        os.close(pidfd)
    return True


def complain(text: str) -> None:
    """An error that nobody is left to raise, on standard error, which may be gone."""
    with contextlib.suppress(OSError, ValueError):
        print(f"qmptests: error: {printable.one_line(text)}", file=sys.stderr, flush=True)  # noqa: T201


def _with_environment(entry: bytes) -> tuple[set[int], bool]:
    """Pids of the processes that have `entry` in their environment; whether one is in an exec."""
    pids: set[int] = set()
    in_exec = False
    for name in os.listdir("/proc"):  # noqa: PTH208 - read again and again, in a hurry
        if name.isdigit():
            environment = _environment(name)
            if environment is None:
                in_exec = True
            elif entry in environment.split(b"\0"):
                pids.add(int(name))
    return pids, in_exec


def _environment(pid: str) -> bytes | None:
    """A process's environment; empty if there is none to be had, None in the middle of an exec.

    The kernel has replaced the memory then, and not yet said where in it code and environment are
    (Linux, load_elf_binary): `environ` is empty or cut short, the start of the code in `stat` is 0.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:  # noqa: PTH123 - as above
            environment = stream.read()
        with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return b""
    # proc(5): fields 23, vsize; 26, startcode; 50 and 51, env_start and env_end.
    size, code, begin, end = (int(fields[number - 3]) for number in (23, 26, 50, 51))
    if size == 0:  # a zombie, or a thread of the kernel
        return b""
    return environment if code and len(environment) == end - begin else None
