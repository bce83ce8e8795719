"""Core dumps: where the kernel put one, and into the evidence with it (core(5))."""

import contextlib
import glob
import os
import re
import resource
import stat
from pathlib import Path

_PATTERN = Path("/proc/sys/kernel/core_pattern")
_USES_PID = Path("/proc/sys/kernel/core_uses_pid")


def handler(pattern: str) -> str:
    """The program that the kernel pipes core dumps to; "" if it writes files."""
    words = pattern[1:].split() if pattern.startswith("|") else []
    return words[0] if words else ""


def as_glob(pattern: str, uses_pid: bool, pid: int | None) -> str:
    """Which files a process's core dump may be, the pattern's %-words being known or not.

    `pid` None: of any process.
    """
    shown = glob.escape(str(pid)) if pid is not None else "*"
    known = {"p": shown, "%": "%"}
    parts = re.split(r"%(.)", pattern)
    text = "".join(
        known.get(part, "*") if number % 2 else glob.escape(part)
        for number, part in enumerate(parts)
    )
    return f"{text}.{shown}" if uses_pid and "p" not in parts[1::2] else text


def collect(
    folder: Path, name: str, *, pid: int | None, dumped: bool, cwd: Path, since: float
) -> str:
    """What became of the core dump of `name`, in words for the outcome.

    A file is moved into `folder` as `NAME.core` if it is on the same file system. `pid` None: it
    is not known, since the process had a wrapper; `dumped` says little then. `since`: what is
    older (seconds since the epoch) is another's.
    """
    pattern = _read(_PATTERN)
    if program := handler(pattern):
        if not dumped:
            return "no core dump"
        how = f"coredumpctl debug {pid}" if "systemd-coredump" in program else f"pid {pid}"
        return f"core dump: {program} got it ({how})" if pid else f"core dump: {program} got it"
    wanted = str(cwd / as_glob(pattern, _read(_USES_PID) == "1", pid)) if pattern else ""
    found = newest(wanted, since) if dumped or pid is None else None
    if found is not None:
        with contextlib.suppress(OSError):  # another file system
            return f"core dump: {found.rename(folder / f'{name}.core').name}"
        return f"core dump: {found}"
    if dumped:
        return f"core dump not found in {wanted}"
    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        return "no core dump: ulimit -c is 0"
    return "no core dump"


def newest(wanted: str, since: float) -> Path | None:
    """The newest file of ours that a glob means, unless it is older than `since`.

    Others may write where core dumps go: neither their files are meant, nor what a link says.
    """
    times = {}
    for path in map(Path, glob.glob(wanted)):  # noqa: PTH207 - an absolute pattern
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                times[path] = status.st_mtime
    fresh = [path for path, time in times.items() if time >= since]
    return max(fresh, key=lambda path: times[path], default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
