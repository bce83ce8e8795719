"""Behind a device, and behind migration data, is memory: what a program could do to that alone."""

import fcntl
import os

import pytest

from qmptests.vfio import descriptors
from qmptests.vfio.files import File, Files
from qmptests.vfio.spec import Bar, Spec
from tests.vfio import supervised

DEVICE = Spec("vf0", bars=(Bar(0, 1 << 16),), stop_copy=1 << 16)


def test_registers_have_their_size_and_all_seals_before_a_program_has_them() -> None:
    """It may be faster than its supervisor."""
    registers = descriptors.registers("vf0")
    assert os.fstat(registers).st_size == 9 << 40
    with pytest.raises(PermissionError):
        os.truncate(registers, 1)
    with pytest.raises(PermissionError):
        fcntl.fcntl(registers, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(registers)


FLAGS = """
bind()
device, command = descriptors.device(0), (7 << 40) + 4
fcntl.fcntl(device, fcntl.F_SETFL, os.O_APPEND)
written = os.pwrite(device, b"\\x06\\x00", command)
say(written=written, is_there=os.pread(device, 2, command).hex(),
    reset=ask(device, Vfio.DEVICE_RESET, 0))
"""


def test_flags_that_a_program_sets_are_its_own() -> None:
    done = supervised.run(FLAGS, [DEVICE])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said == {"written": 2, "is_there": "0600", "reset": 0}


SESSION = """
bind()
assert state("stop")[0] == 0
saving = state("stop-copy")[1]
data = b"".join(iter(lambda: os.read(saving, 65536), b""))
assert state("stop")[0] == 0
resuming = state("resuming")[1]
PUNCH = 3

def short(*words):
    "As call, of a function whose value is an int."
    said = ctypes.c_int(call(*words)).value
    return said if said >= 0 else -ctypes.get_errno()
"""

UNABLE = """
device = descriptors.device(0)
say(each=[[call("lseek", fd, 0, 0), short("ftruncate", fd, 1 << 40),
           short("fallocate", fd, PUNCH, 0, 4096), short("fallocate", fd, 0, 0, 4096)]
          for fd in (device, resuming)],
    seals=short("fcntl", resuming, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
    dup=call("fcntl", resuming, fcntl.F_DUPFD, 0) > 0,
    all_written=os.write(resuming, data) == len(data),
    loaded=[state("stop")[0], state("running")[0]])
"""


def test_no_size_position_hole_or_seal_of_a_device() -> None:
    done = supervised.run(SESSION + UNABLE, [DEVICE])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said == {
        "each": [[-29, -22, -19, -19]] * 2,
        "seals": -22,
        "dup": True,
        "all_written": True,
        "loaded": [0, 0],
    }


SEALED = """
other = os.dup2(resuming, 300)
seals = short("fcntl", other, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
os.write(resuming, data)
say(seals=seals, loaded=[state("stop")[0], state("running")[0]], again=state("stop")[0])
"""


def test_seals_by_another_number_end_nothing() -> None:
    """The check of what arrived comes once nothing else is to be done, at the end at the latest."""
    done = supervised.run(SESSION + SEALED, [DEVICE])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said == {"seals": 0, "loaded": [0, 0], "again": 0}


def test_a_file_of_another_filesystem_is_not_ours_for_its_inode() -> None:
    spare = descriptors.nothing("spare")
    files = Files(os.dup(spare), [], spare, range(960, 1024))
    old = files.open_saving(0)
    kept = os.dup(old.fd)
    files.retire(old)
    assert files.find(os.getpid(), kept) is old
    (identity,) = files._old
    files._old = {(identity[0] + 1, identity[1]): File("saving", -1, 0)}
    assert files.find(os.getpid(), kept) is None
    for descriptor in (spare, kept):
        os.close(descriptor)
