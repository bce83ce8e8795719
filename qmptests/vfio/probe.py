"""Whether this kernel and this process may do all that emulated VFIO devices need, and if not why.

It is tried, on a tiny child: what a kernel's version promises, a container or a security module
may still forbid. Standard library only; quick enough (one start of Python) to ask it whenever a
supervisor can't start.
"""

import errno
import fcntl
import os
import resource
import select
import signal
import sys
from typing import NamedTuple

from qmptests.vfio import abi, arch, bpf, descriptors, interpose, syscalls
from qmptests.vfio.listener import Gone, Listener
from qmptests.vfio.memory import ProcessMemory

#: Milliseconds for the child to make its call.
PATIENCE_MS = 20_000
YAMA = "/proc/sys/kernel/yama/ptrace_scope"

_CONTAINER = "in a container, run it with `--security-opt seccomp=unconfined`"
_DATA = descriptors.data(descriptors.ENOUGH)
_GIVEN = _DATA[-1]
_LENGTH = 8
#: It shows us an event descriptor, and looks whether all that we did has come.
_CHILD = f"""
import fcntl, os
event = os.eventfd(0)
argument = bytearray(event.to_bytes({_LENGTH}, "little"))
fcntl.ioctl({descriptors.IOMMUFD}, {int(abi.Iommu.IOAS_ALLOC)}, argument)
assert argument == bytes(range({_LENGTH})), argument
assert os.eventfd_read(event) == 1
os.fstat({_GIVEN})
"""


class Proof(NamedTuple):
    """`problem` is "" if all can be done; `note` is what could be better."""

    problem: str = ""
    remedy: str = ""
    note: str = ""


def prove() -> Proof:
    """Try everything once. For a process with one thread, since it forks."""
    try:
        here = arch.current()
    except OSError as error:
        return Proof(error.strerror or "", "use a machine of one of these")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = descriptors.ENOUGH
    if most != resource.RLIM_INFINITY and most < enough:
        return Proof(
            f"only {most} open files are allowed, and devices need descriptors up to {enough - 1}",
            f"`ulimit -n {enough}`, as root",
        )
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    reserved = {descriptors.IOMMUFD: null, _GIVEN: null, 2: null}
    argv = [sys.executable, "-I", "-S", "-c", _CHILD]
    try:
        child = interpose.start(argv, bpf.pack(bpf.program(here, 0, _DATA)), reserved)
    except OSError as error:
        os.close(null)
        return judge("seccomp", error)
    try:
        return _serve(child, null)
    finally:
        os.close(null)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.listener)


def explain(error: OSError) -> str:
    """Why a command could not be started under the filter, in one line with the remedy."""
    proof = prove()
    return f"{proof.problem}: {proof.remedy}" if proof.problem else str(error)


def _serve(child: interpose.Child, null: int) -> Proof:
    """Do to the child's call what a supervisor does to QEMU's; it has `null` as its iommufd."""
    listener = Listener(child.listener)
    step = "notification"
    try:
        call = _receive(listener)
        step = "memory"
        memory = ProcessMemory(call.pid)
        event = int.from_bytes(memory.read(call.arg2, _LENGTH), "little")
        memory.write(call.arg2, bytes(range(_LENGTH)))
        memory.close()
        step = "kcmp"
        _recognise(null, call)
        step = "pidfd_getfd"
        _trigger(child.pid, event)
        step = "ADDFD"
        listener.give(call.id, child.listener, _GIVEN)
        step = "answer"
        listener.answer(call.id)
        _reap(child.pid)
    except OSError as error:
        return judge(step, error)
    except Gone:
        return Proof("the kernel lost the call of a child that is alive", "report it, please")
    return Proof(note=_slower(listener))


def _receive(listener: Listener) -> abi.Notification:
    _wait(listener.fd, "no call was notified")
    return listener.receive()


def _recognise(own: int, call: abi.Notification) -> None:
    if syscalls.same_file(own, call.pid, call.arg0) != 0:
        raise OSError(errno.EIO, "the child's file is not found to be ours")


def _trigger(pid: int, descriptor: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        event = syscalls.take_descriptor(pidfd, descriptor)
    finally:
        os.close(pidfd)
    os.eventfd_write(event, 1)
    os.close(event)


def _reap(pid: int) -> None:
    """Raise OSError unless the child is content; it stays a zombie."""
    pidfd = os.pidfd_open(pid)
    try:
        _wait(pidfd, "the child's call did not return")
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        os.close(pidfd)
    if ended is None or ended.si_status != 0:
        raise OSError(errno.EIO, "the child did not find what was given to it")


def _wait(descriptor: int, otherwise: str) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(PATIENCE_MS):
        raise OSError(errno.ETIMEDOUT, otherwise)


def _slower(listener: Listener) -> str:
    try:
        fcntl.ioctl(listener.fd, abi.Seccomp.NOTIF_SET_FLAGS, abi.NOTIF_SYNC_WAKE_UP)
    except OSError:
        return "calls take longer than from Linux 6.6 on, which wakes up on the same CPU"
    return ""


def judge(step: str, error: OSError) -> Proof:
    """What it means that a step of `prove` failed so, and the remedy."""
    number = error.errno or errno.EIO
    said = f"{step}: {os.strerror(number)}"
    forbidden = number in (errno.EPERM, errno.EACCES, errno.ENOSYS)
    if step == "seccomp" and number == errno.EINVAL:
        return Proof(
            f"the kernel, {os.uname().release}, does not notify system calls as it must "
            "(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)",
            "use Linux 5.19 or later, with CONFIG_SECCOMP_FILTER",
        )
    if step == "seccomp" and number == errno.EBUSY:
        return Proof(
            "somebody is notified of this process's system calls already",
            "run it neither under `qmptests vfio run` nor in a container whose manager does so",
        )
    if step == "seccomp" and forbidden:
        return Proof("seccomp(2) is forbidden here", _CONTAINER)
    if step in ("memory", "kcmp", "pidfd_getfd"):
        if (scope := ptrace_scope()) >= 2:
            return Proof(
                f"Yama's ptrace_scope is {scope}: a child's memory and descriptors are "
                f"out of reach ({said})",
                "`sysctl kernel.yama.ptrace_scope=1` as root"
                + (", which needs a reboot since it was 3" if scope == 3 else ""),
            )
        if forbidden:
            return Proof(f"a child's memory or descriptors are out of reach ({said})", _CONTAINER)
    if number in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return Proof(
            f"this machine, or a limit, gives no more ({said})",
            "see `free` and `ulimit -a`: processes, memory, open files",
        )
    return Proof(f"a notified call can't be served ({said})", "use Linux 5.19 or later")


def ptrace_scope() -> int:
    """Yama's setting (Documentation/admin-guide/LSM/Yama.rst); 0 without Yama."""
    try:
        with open(YAMA, encoding="ascii") as stream:
            return int(stream.read())
    except OSError:
        return 0
