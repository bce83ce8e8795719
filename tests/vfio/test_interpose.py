"""Interposition on real processes: notified, answered, left alone, killed, interrupted."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qmptests.vfio import abi, arch, bpf, descriptors, interpose
from qmptests.vfio.listener import Gone, Listener
from qmptests.vfio.memory import ProcessMemory

DATA = range(220, 240)
REQUEST = int(abi.Iommu.IOAS_ALLOC)


class Parent:
    """A supervisor by hand: one child under the filter."""

    def __init__(self, code: str, *words: str) -> None:
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        program = bpf.pack(bpf.program(arch.current(), 1, DATA))
        reserved = {descriptors.IOMMUFD: self._null, DATA[0]: self._null}
        argv = [*words, sys.executable, "-I", "-S", "-c", code]
        self.child = interpose.start(argv, program, reserved)
        self.listener = Listener(self.child.listener)

    def receive(self) -> abi.Notification:
        poll = select.poll()
        poll.register(self.listener.fd, select.POLLIN)
        assert poll.poll(20_000) == [(self.listener.fd, select.POLLIN)]
        return self.listener.receive()

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.child.pid, 0)[1])

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.child.pid, signal.SIGKILL)
            os.waitpid(self.child.pid, 0)
        os.close(self.listener.fd)
        os.close(self._null)


@contextlib.contextmanager
def child(code: str, *words: str) -> Iterator[Parent]:
    parent = Parent(code, *words)
    try:
        yield parent
    finally:
        parent.close()


ALLOCATE = f"""
import fcntl, sys
argument = bytearray(12)
try:
    fcntl.ioctl({descriptors.IOMMUFD}, {REQUEST}, argument)
except OSError as error:
    sys.exit(error.errno)
sys.exit(argument[8])
"""


def test_a_call_is_answered_and_its_memory_written() -> None:
    with child(ALLOCATE) as parent:
        call = parent.receive()
        assert (call.nr, call.arg0) == (arch.current().ioctl, descriptors.IOMMUFD)
        assert call.arg1 & 0xFFFFFFFF == REQUEST
        memory = ProcessMemory(call.pid)
        assert memory.read(call.arg2, 12) == bytes(12)
        parent.listener.check(call.id)
        memory.write(call.arg2 + 8, b"\x2a")
        parent.listener.answer(call.id)
        assert parent.status() == 42
        memory.close()


def test_a_call_is_failed_with_an_errno() -> None:
    with child(ALLOCATE) as parent:
        parent.listener.answer(parent.receive().id, number=95)
        assert parent.status() == 95


def test_a_call_is_left_to_the_kernel() -> None:
    with child(ALLOCATE) as parent:
        parent.listener.let_the_kernel(parent.receive().id)
        assert parent.status() == 25  # ENOTTY, of /dev/null


def test_memory_is_one_programs_and_not_that_of_the_next_one() -> None:
    """The shell that QEMU is started by has other memory than QEMU, at the same addresses."""
    again = f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', {ALLOCATE!r}])"
    with child(ALLOCATE.replace("sys.exit(argument[8])", again)) as parent:
        first = parent.receive()
        before = ProcessMemory(first.pid)
        assert len(before.read(first.arg2, 12)) == 12
        kept = before.keep()
        parent.listener.answer(first.id)
        second = parent.receive()
        assert second.pid == first.pid
        for memory in (before, kept):
            with pytest.raises(OSError, match="Bad address"):
                memory.read(first.arg2, 12)
            with pytest.raises(OSError, match="Bad address"):
                memory.write(second.arg2, bytes(12))
            memory.close()
        after = ProcessMemory(second.pid)
        assert after.read(second.arg2, 12) == bytes(12)
        after.write(second.arg2 + 8, b"\x07")
        after.close()
        parent.listener.answer(second.id)
        assert parent.status() == 7


def test_what_is_not_mapped_is_efault() -> None:
    with child(ALLOCATE) as parent:
        memory = ProcessMemory(parent.receive().pid)
        for address in (0, 1 << 46, (1 << 64) - 8):
            with pytest.raises(OSError, match="Bad address"):
                memory.read(address, 8)
            with pytest.raises(OSError, match="Bad address"):
                memory.write(address, b"12345678")


def test_an_answer_to_a_thread_that_was_killed_is_nothing() -> None:
    with child(ALLOCATE) as parent:
        call = parent.receive()
        os.kill(parent.child.pid, signal.SIGKILL)
        assert parent.status() == -signal.SIGKILL
        with pytest.raises(Gone):
            parent.listener.check(call.id)
        parent.listener.answer(call.id)
        with pytest.raises(Gone):
            parent.listener.give(call.id, 0, 300)


READ = f"""
import os, signal, sys
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
data = os.read({DATA[0]}, 5)
sys.exit(0 if data == b"hello" and got else 1)
"""


def test_a_signal_does_not_make_a_received_call_come_twice() -> None:
    """SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: without it the read would be made again."""
    with child(READ) as parent:
        call = parent.receive()
        os.kill(parent.child.pid, signal.SIGUSR1)
        poll = select.poll()
        poll.register(parent.listener.fd, select.POLLIN)
        assert poll.poll(200) == []
        ProcessMemory(call.pid).write(call.arg1, b"hello")
        parent.listener.answer(call.id, 5)
        assert parent.status() == 0


def test_a_descriptor_lands_on_the_number_that_was_asked_for() -> None:
    code = ALLOCATE.replace("sys.exit(argument[8])", "import os; sys.exit(len(os.read(230, 100)))")
    with child(code) as parent:
        call = parent.receive()
        descriptor = os.memfd_create("given")
        os.write(descriptor, b"12345")
        os.lseek(descriptor, 0, os.SEEK_SET)
        parent.listener.give(call.id, descriptor, 230)
        os.close(descriptor)
        parent.listener.answer(call.id)
        read = parent.receive()  # 230 is a data descriptor's number
        parent.listener.let_the_kernel(read.id)
        assert parent.status() == 5


def test_its_children_are_under_the_filter_too() -> None:
    code = f"""
import os, sys
sys.exit(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", {ALLOCATE!r}]))
"""
    with child(code) as parent:
        call = parent.receive()
        assert call.pid != parent.child.pid
        parent.listener.answer(call.id, number=3)
        assert parent.status() == 3


def test_it_dies_with_its_parent() -> None:
    """The parent here is a process of its own, which is killed; its child waits in a call."""
    code = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from qmptests.vfio import arch, bpf, descriptors, interpose
null = os.open("/dev/null", os.O_RDWR)
child = interpose.start([sys.executable, "-c", {ALLOCATE!r}],
    bpf.pack(bpf.program(arch.current(), 1, range(220, 240))), {{descriptors.IOMMUFD: null}})
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, "")
    with contextlib.suppress(ProcessLookupError):
        gone = os.pidfd_open(int(ended.stdout))
        poll = select.poll()
        poll.register(gone, select.POLLIN)
        assert poll.poll(10_000)
        os.close(gone)


def test_a_command_that_is_not_there_is_named() -> None:
    program = bpf.pack(bpf.program(arch.current(), 1, DATA))
    with pytest.raises(FileNotFoundError, match="/nowhere/qemu: No such file"):
        interpose.start(["/nowhere/qemu"], program, {})


def test_a_filter_that_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(OSError, match="seccomp: Invalid argument"):
        interpose.start(["true"], b"\xff" * 8, {})
