"""The beginning of a supervisor: its command is started first, and all that serves it comes while
the command loads.

Run as ``python -I -S start.py FD``: FD is a file with the configuration as JSON
(`supervisor.Settings`). Standard library only. QEMU needs some time until it makes a call that is
notified, and our own imports need as much: on another CPU they cost nothing.
"""

import contextlib
import gc
import os
import sys

if __name__ == "__main__":
    gc.disable()  # nothing that is made to serve a call is part of a cycle
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import errno
import json
import resource
import signal
import socket
from collections.abc import Iterable
from typing import Any, NamedTuple

from qmptests.kept import Kept
from qmptests.vfio import alone, arch, bpf, descriptors, guard, interpose


class Started(NamedTuple):
    """A command that runs, its calls waiting to be answered.

    `memories`: of each device the memfd that the command has as the device's descriptor, still
    zeros. `iommufd`: what it has as the iommufd; `spare`: what it has on all numbers in `data`,
    which are kept for migration data. `log`: None if nobody wants one. `owner`: it knows already;
    None without one, and only then there are `signals`.
    """

    pid: int
    pidfd: int
    listener: int
    memories: list[int]
    iommufd: int
    spare: int
    data: range
    log: Kept | None
    owner: socket.socket | None
    signals: alone.Signals | None


def main() -> None:
    with open(int(sys.argv[1]), encoding="utf-8") as stream:
        told = json.load(stream)
    if told.get("control", -1) < 0:
        told["guard"] = guard.divide(told.get("unlink", ""))
    try:
        sys.exit(_run(told))
    finally:
        if told.get("unlink"):
            with contextlib.suppress(OSError):
                os.unlink(told["unlink"])


def _run(told: dict[str, Any]) -> int:
    """From the command's start to its end; our exit status."""
    try:
        started: Started | OSError = start(told)
    except OSError as error:
        started = error
    from qmptests.vfio import supervisor  # noqa: PLC0415 - now there is time

    return supervisor.serve(told, started)


def start(told: dict[str, Any]) -> Started:
    """Start the command that we are told of. Raises OSError."""
    signals = None
    sockets = [told[name] for name in ("control", "listen") if told.get(name, -1) >= 0]
    for descriptor in sockets:
        os.set_inheritable(descriptor, False)
    if told.get("control", -1) < 0:
        signals = alone.Signals()
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # they are the command's to handle; we follow it
    log = _open_log(told["log"]) if told.get("log") else None
    devices = told["devices"]
    memories = [descriptors.registers(device["name"]) for device in devices]
    # Like an iommufd, a pidfd can neither be read nor written (EINVAL) nor sought (ESPIPE).
    iommufd, spare = os.pidfd_open(os.getpid()), descriptors.nothing("spare")
    reserved = {descriptors.IOMMUFD: iommufd}
    reserved |= {descriptors.device(number): memory for number, memory in enumerate(memories)}
    _require_free(reserved)
    data = descriptors.data(_limit_of_open_files())
    reserved |= {number: spare for number in data if not _is_open(number)}
    program = bpf.pack(
        bpf.program(arch.current(), len(devices), data, writes=any(map(watches_writes, devices)))
    )
    # Either we end by a signal, or the command gets it: none comes while both are being made.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, interpose.TAKEN)
    try:
        child = interpose.start(told["argv"], program, reserved)
        pidfd = os.pidfd_open(child.pid)
        if signals is not None:
            signals.follow(pidfd)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    owner = socket.socket(fileno=told["control"]) if signals is None else None
    if owner is not None:
        words = json.dumps({"event": "started", "pid": child.pid}).encode()
        with contextlib.suppress(OSError):  # it may be gone: to be seen when it is served
            socket.send_fds(owner, [words], [pidfd])
    return Started(
        child.pid, pidfd, child.listener, memories, iommufd, spare, data, log, owner, signals
    )


def _limit_of_open_files() -> int:
    """The hard limit, up to which the soft one is raised; -1 for none. OSError if it is too low."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= limit < descriptors.ENOUGH:
        words = f"{limit} open files are too few, {descriptors.ENOUGH} are needed"
        raise OSError(errno.EMFILE, words)
    return limit


def _require_free(numbers: Iterable[int]) -> None:
    for number in numbers:
        if _is_open(number):
            words = "is open already, and a device's descriptor is to be there: close it before"
            raise OSError(errno.EBUSY, f"descriptor {number} {words}")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def watches_writes(device: dict[str, Any]) -> bool:
    """Whether writes to its data descriptors are notified: not if nobody wants to know."""
    rules = (rule["on"].partition(":")[0] for rule in device["rules"])
    watched = ("watch_writes", "write_bandwidth", "refuse_at_write")
    return any(device[key] for key in watched) or "write" in rules


def _open_log(path: str) -> Kept:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    try:
        # O_NONBLOCK: a pipe that nobody reads is an error, and nothing to wait for.
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
        os.set_blocking(descriptor, True)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    return Kept(descriptor)


if __name__ == "__main__":
    main()
