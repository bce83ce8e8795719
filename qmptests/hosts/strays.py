"""Processes whose launcher is dead: found by what it put into their environment, and killed."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Set

from qmptests import printable, reaping

#: In the environment of every process that we start: strays are found by it, never by name.
MARKER = "QMPTESTS_RUN"
#: The same for one process, and what it starts.
PROCESS_MARKER = "QMPTESTS_PROCESS"
#: Seconds for which strays are hunted.
STRAYS_S = 5.0
#: Seconds for which the end of somebody's exec is waited for.
EXEC_S = 2.0
#: Looks that find none, in which it matters whether anybody at all is in an exec.
ANY_EXEC_LOOKS = 3
#: Seconds between two looks.
LOOK_S = 0.002


#: Whether a process is meant, by the entries of its environment.
Meant = Callable[[list[bytes]], bool]


def kill_strays(marker: str, variable: str = MARKER, but: Set[int] = frozenset()) -> list[int]:
    """SIGKILL every process whose environment has our marker, but not this one; their pids.

    `but`: pids of others that are spared. One that may not be killed is named on standard error.
    """
    entry = f"{variable}={marker}".encode()
    return _kill_all(lambda environment: entry in environment, but)


def kill_owned_by(owner: int) -> list[int]:
    """The same for what the launcher of a process has started, that launcher included."""
    return _kill_all(_of_owner(owner))


def owned_by(owner: int) -> bool:
    """Whether there is anything that the launcher of that process has started, or it itself."""
    of_owner, in_exec = _with_environment(_of_owner(owner))
    return bool(of_owner or in_exec)


def _of_owner(owner: int) -> Meant:
    beginning = f"{MARKER}={owner}-".encode()
    return lambda environment: any(entry.startswith(beginning) for entry in environment)


def _kill_all(meant: Meant, but: Set[int] = frozenset()) -> list[int]:
    """Looks again until it finds none, since one may have forked while the list was read.

    One that is in the middle of an exec has no environment to look at: that is waited for. So are
    those that begin one meanwhile, in two more looks: a child of the first, which is gone, say.
    """
    killed: set[int] = set()
    spared: set[int] = {os.getpid(), *but}
    now = time.monotonic()
    deadline, last_seen = now + STRAYS_S, now
    unclear: set[int] = set()
    clean_looks = 0
    while now < deadline:
        found, in_exec = _with_environment(meant)
        found -= spared
        spared |= {pid for pid in found if not _kill(pid, meant)}
        killed |= found - spared
        now = time.monotonic()
        clean_looks = 0 if found else clean_looks + 1
        unclear = in_exec if clean_looks <= ANY_EXEC_LOOKS else unclear & in_exec
        if found:
            last_seen = now
        elif not unclear or now > last_seen + EXEC_S:
            break
        time.sleep(LOOK_S)
    left = spared - {os.getpid(), *but}
    for pid in sorted(left):
        complain(reaping.described(pid, left))
    return sorted(killed)


def _kill(pid: int, meant: Meant) -> bool:
    """SIGKILL it, unless the number is another process's by now; False if this user may not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if meant((_environment(str(pid)) or b"").split(b"\0")):
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


def _with_environment(meant: Meant) -> tuple[set[int], set[int]]:
    """Pids of the processes whose environment is meant, and of those that are in an exec."""
    pids: set[int] = set()
    in_exec: set[int] = set()
    for name in os.listdir("/proc"):  # noqa: PTH208 - read again and again, in a hurry
        if name.isdigit():
            environment = _environment(name)
            if environment is None:
                in_exec.add(int(name))
            elif meant(environment.split(b"\0")):
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
