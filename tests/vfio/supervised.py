"""A small program in Python under a real supervisor, which asks devices as QEMU does."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qmptests.vfio import spec, start
from qmptests.vfio.spec import Spec

SECONDS = 120
#: What a program begins with: `ask` is an ioctl that gives its errno, or 0.
PRELUDE = """
import ctypes, errno, fcntl, json, mmap, os, signal, sys, threading, time
from qmptests.vfio import abi, descriptors
from qmptests.vfio.abi import Feature, FeatureFlag, Iommu, Vfio
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(function, *words):
    "What a function of libc's says: its value, or the negative errno."
    function = getattr(libc, function)
    function.restype = ctypes.c_ssize_t
    said = function(*(ctypes.c_void_p(w % (1 << 64)) if isinstance(w, int) else w for w in words))
    return said if said >= 0 else -ctypes.get_errno()

def ask(descriptor, request, argument):
    try:
        fcntl.ioctl(descriptor, int(request), argument)
    except OSError as error:
        return error.errno
    return 0

def bind(number=0):
    record = abi.BindIommufd(abi.BIND_IOMMUFD.size, 0, descriptors.IOMMUFD, 0)
    argument = bytearray(abi.BIND_IOMMUFD.pack(record))
    assert ask(descriptors.device(number), Vfio.DEVICE_BIND_IOMMUFD, argument) == 0

def state(word, number=0):
    "Set a device's migration state: errno and data_fd."
    words = ["error", "stop", "running", "stop-copy", "resuming", "running-p2p", "pre-copy"]
    header = abi.FeatureHeader(16, int(Feature.MIG_DEVICE_STATE | FeatureFlag.SET))
    record = abi.FeatureMigState(words.index(word), -1)
    argument = bytearray(abi.FEATURE_HEADER.pack(header) + abi.FEATURE_MIG_STATE.pack(record))
    said = ask(descriptors.device(number), Vfio.DEVICE_FEATURE, argument)
    return said, int.from_bytes(argument[12:16], "little", signed=True)

def say(**more):
    print(json.dumps(more), flush=True)
"""


class Done(NamedTuple):
    """What a program said (the JSON object of its last line), and what the supervisor did.

    `status`: the exit status. `log`: the entries of the call log. `stderr`: both's.
    """

    said: dict[str, Any]
    status: int
    stderr: str
    log: list[dict[str, Any]]

    @property
    def problems(self) -> list[str]:
        """What the supervisor was not ready for."""
        return [str(entry["words"]) for entry in self.log if entry.get("note") == "problem"]


def run(
    code: str, devices: Sequence[Spec] = (Spec("vf0"),), *, files: int = 0, seconds: int = SECONDS
) -> Done:
    """Run PRELUDE and `code` to their end; `files`: descriptors that may be open, 0 for as now."""

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with tempfile.TemporaryDirectory(prefix="supervised-") as scratch:
        program = Path(scratch, "program.py")
        program.write_text(PRELUDE + code)
        log = Path(scratch, "calls.jsonl")
        settings = Path(scratch, "settings.json")
        told = {
            "argv": [sys.executable, str(program)],
            "devices": [spec.to_json(device) for device in devices],
            "log": str(log),
            "unlink": "",
        }
        settings.write_text(json.dumps(told))
        with settings.open() as stream:
            done = subprocess.run(
                [sys.executable, "-I", "-S", start.__file__, str(stream.fileno())],
                pass_fds=[stream.fileno()],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
                preexec_fn=limit,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        lines = done.stdout.splitlines()
        return Done(
            json.loads(lines[-1]) if lines else {},
            done.returncode,
            done.stderr,
            [json.loads(line) for line in log.read_text().splitlines()[1:]],
        )
