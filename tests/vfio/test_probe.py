"""The probe says what a kernel offers, and what forbids it, on real processes."""

import errno
import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.reaping import descendants_of
from qmptests.vfio import arch, probe

HERE = arch.current()

#: A container's seccomp profile, or an older kernel: some system calls fail.
FORBID = """
import ctypes, json, struct
from qmptests.vfio import abi, probe, syscalls

def instruction(code, true, false, value):
    return struct.pack("<HBBI", code, true, false, value)

program = b"".join([
    instruction(0x20, 0, 0, 0),
    instruction(0x15, 0, 1, {number}),
    instruction(0x06, 0, 0, 0x50000 | {error}),
    instruction(0x06, 0, 0, abi.RET_ALLOW),
])
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
filter_ = syscalls._Program(len(program) // 8, program)
assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(filter_), 0, 0) == 0
print(json.dumps(probe.prove()))
"""
NESTED = """
import json
from qmptests.vfio import arch, bpf, probe, syscalls
syscalls.listen(bpf.pack(bpf.program(arch.current(), 1, range(220, 240))))
print(json.dumps(probe.prove()))
"""


def proof_of(code: str, files: int = 0) -> probe.Proof:
    """What a new process, with so many files allowed, says at its end."""

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=limit,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return probe.Proof(*json.loads(done.stdout))


@pytest.mark.smoke
def test_here_all_can_be_done() -> None:
    proof = probe.prove()
    assert (proof.problem, proof.remedy) == ("", "")


def test_it_leaves_nothing_behind() -> None:
    gc.collect()  # descriptors of objects that are no longer used
    before = sorted(Path("/proc/self/fd").iterdir()), descendants_of(os.getpid())
    probe.prove()
    assert (sorted(Path("/proc/self/fd").iterdir()), descendants_of(os.getpid())) == before


@pytest.mark.parametrize(
    ("number", "error", "problem", "remedy"),
    [
        (HERE.seccomp, errno.EPERM, "seccomp(2) is forbidden", "seccomp=unconfined"),
        (HERE.seccomp, errno.EINVAL, "does not notify system calls", "Linux 5.19"),
        (HERE.pidfd_getfd, errno.ENOSYS, "(pidfd_getfd: Function not", "unconfined"),
    ],
)
def test_what_is_forbidden_is_named_with_its_remedy(
    number: int, error: int, problem: str, remedy: str
) -> None:
    proof = proof_of(FORBID.format(number=number, error=error))
    assert problem in proof.problem
    assert remedy in proof.remedy


def test_a_second_listener_is_named() -> None:
    proof = proof_of(NESTED)
    assert "already" in proof.problem
    assert "qmptests vfio run" in proof.remedy


def test_too_few_files_are_named() -> None:
    proof = proof_of(
        "import json; from qmptests.vfio import probe; print(json.dumps(probe.prove()))", 200
    )
    assert "only 200 open files" in proof.problem
    assert proof.remedy == "`ulimit -n 256`, as root"


@pytest.mark.parametrize(("scope", "reboot"), [(2, False), (3, True)])
def test_yama_is_named_where_it_is_the_reason(
    scope: int, reboot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "ptrace_scope", lambda: scope)
    proof = probe.judge("memory", PermissionError(errno.EACCES, "Permission denied"))
    assert f"ptrace_scope is {scope}" in proof.problem
    assert proof.remedy.startswith("`sysctl kernel.yama.ptrace_scope=1`")
    assert ("reboot" in proof.remedy) is reboot


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_machine_that_gives_no_more_is_not_an_old_kernel(number: int) -> None:
    proof = probe.judge("seccomp", OSError(number, os.strerror(number)))
    assert os.strerror(number) in proof.problem
    assert proof.remedy.startswith("see `free` and `ulimit -a`")


def test_an_unknown_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(["Linux", "", "", "", "riscv64"]))
    proof = probe.prove()
    assert "this is riscv64" in proof.problem
    assert proof.remedy
