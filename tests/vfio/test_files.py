"""Whatever number a program has one of our files on, it is that file; all others are its own."""

import pytest

from qmptests.vfio.spec import Spec
from tests.vfio import supervised

DEVICE = Spec("vf0", initial_bytes=1 << 20, stop_copy=1 << 20)

READ = """
def read(descriptor, count=4096):
    "How many bytes there are, or the negative errno."
    try:
        return len(os.read(descriptor, count))
    except OSError as error:
        return -error.errno

def write(descriptor, count=16):
    try:
        return os.write(descriptor, bytes(count))
    except OSError as error:
        return -error.errno

def precopy(descriptor):
    argument = bytearray(abi.PRECOPY_INFO.pack(abi.PrecopyInfo(24, 0, 0, 0)))
    return ask(descriptor, Vfio.MIG_GET_PRECOPY_INFO, argument)

def info(descriptor):
    argument = bytearray(abi.DEVICE_INFO.pack(abi.DeviceInfo(abi.DEVICE_INFO.size, 0, 0, 0)))
    return ask(descriptor, Vfio.DEVICE_GET_INFO, argument)
"""


def run(code: str, **more: int) -> dict[str, object]:
    done = supervised.run(READ + code, [DEVICE], **more)
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    return done.said


def test_a_program_with_many_open_files_keeps_them_all() -> None:
    """As a QEMU with 255 multifd channels: data descriptors were put onto its sockets."""
    said = run("""
bind()
files = []
while True:
    try:
        file = os.memfd_create("mine")
    except OSError:
        break
    os.write(file, b"mine")
    files.append(file)
    if len(files) == 1200:
        break
sessions = [state(word)[1] for word in ["pre-copy", "running", "stop-copy"]]
others = [file for file in files if os.pread(file, 9, 0) != b"mine"]
both = set(files) & set(sessions)
say(files=len(files), others=others, both=list(both), data=read(sessions[-1]))
""")
    assert said == {"files": 1200, "others": [], "both": [], "data": 4096}


def test_a_file_on_a_number_of_ours_is_the_programs_own() -> None:
    said = run("""
import tempfile
bind()
kept = state("pre-copy")[1]
seen = {}
limit = descriptors.data(1024)
for number in [descriptors.IOMMUFD, descriptors.device(0), descriptors.device(1), kept,
               limit[1], limit[-1]]:
    file = tempfile.TemporaryFile()
    os.dup2(file.fileno(), number)
    written = os.write(number, b"small"), os.pwrite(number, b"other", 100)
    os.lseek(number, 0, os.SEEK_SET)
    read = os.read(number, 5), os.pread(number, 5, 100), os.fstat(os.dup(number)).st_size
    asked = info(number), ask(number, Iommu.IOAS_ALLOC, bytearray(12))
    seen[number] = (written, read, asked) == ((5, 5), (b"small", b"other", 105), (25, 25))
say(**{str(number): right for number, right in seen.items()})
""")
    assert set(said.values()) == {True}
    assert len(said) == 6


def test_a_file_that_was_open_before_stays() -> None:
    said = run("""
file = os.memfd_create("inherited", 0)
os.write(file, b"inherited")
number = descriptors.data(1024)[5]
os.dup2(file, number)
script = '''
import os
from qmptests.vfio import descriptors
os.lseek(%d, 0, 0)
print(os.read(%d, 99))
''' % (number, number)
import subprocess
argv = [sys.executable, "-c", script]
said = subprocess.run(argv, close_fds=False, capture_output=True, text=True)
say(said=said.stdout, error=said.stderr)
""")
    assert said == {"said": "b'inherited'\n", "error": ""}


@pytest.mark.parametrize(
    "how",
    [
        "os.dup(data)",
        "libc.dup(data)",
        "fcntl.fcntl(data, fcntl.F_DUPFD, 0)",
        "fcntl.fcntl(data, fcntl.F_DUPFD_CLOEXEC, 3)",
        "fcntl.fcntl(data, fcntl.F_DUPFD, data)",
        "os.dup(os.dup(data))",
    ],
)
def test_a_data_descriptor_that_is_duplicated_works(how: str) -> None:
    said = run(f"""
bind()
data = state("pre-copy")[1]
first = read(data)
copy = {how}
os.close(data)
say(errno=precopy(copy), read=[first, read(copy)], closed=[read(data), precopy(data)],
    inherited=os.get_inheritable(copy), other=copy != data)
""")
    inherited = "CLOEXEC" not in how and "os.dup" not in how
    assert said == {
        "errno": 0,
        "read": [4096, 4096],
        "closed": [-9, 9],
        "inherited": inherited,
        "other": True,
    }


def test_elsewhere_reading_is_an_error_and_no_end_of_data() -> None:
    """A number that the filter does not know: dup2, or a socket that carries descriptors."""
    said = run("""
import array, socket
bind()
data = state("pre-copy")[1]
ours, theirs = socket.socketpair()
socket.send_fds(ours, [b"x"], [data])
sent = socket.recv_fds(theirs, 1, 1)[1][0]
numbers = [os.dup2(data, 50), sent]
say(numbers=len(set(numbers)), read=[read(n) for n in numbers], asked=[precopy(n) for n in numbers])
""")
    assert said == {"numbers": 2, "read": [-9, -9], "asked": [0, 0]}


def test_a_device_works_on_any_number() -> None:
    said = run("""
import socket
copies = [os.dup(descriptors.device(0)), os.dup2(descriptors.device(0), 50)]
pair = socket.socketpair()
socket.send_fds(pair[0], [b"x"], [descriptors.device(0)])
copies += socket.recv_fds(pair[1], 1, 1)[1]
bind()
config = 7 << 40
for value, copy in enumerate(copies, 1):
    os.pwrite(copy, bytes([value]), config + 0x3c)  # the interrupt line can be written
    os.pwrite(copy, b"\\xff\\xff", config)  # the vendor can't
read = [os.pread(descriptors.device(0), 1, config + 0x3c)[0]]
vendor = os.pread(descriptors.device(0), 2, config) != b"\\xff\\xff"
iommufd = os.dup(descriptors.IOMMUFD)
argument = bytearray((12).to_bytes(4, "little") + bytes(8))
say(asked=[info(copy) for copy in copies], line=read, vendor=vendor,
    iommufd=ask(iommufd, Iommu.IOAS_ALLOC, argument), id=argument[8] > 0)
""")
    assert said == {"asked": [0, 0, 0], "line": [3], "vendor": True, "iommufd": 0, "id": True}


def test_a_child_has_them_as_well() -> None:
    said = run("""
bind()
data = state("pre-copy")[1]
child = os.fork()
if child == 0:
    os._exit(int((info(descriptors.device(0)), read(data), precopy(data)) != (0, 4096, 0)))
say(status=os.waitpid(child, 0)[1], rest=read(data))
""")
    assert said == {"status": 0, "rest": 4096}


def test_what_is_closed_is_ebadf() -> None:
    said = run("""
bind()
data = state("pre-copy")[1]
for number in [data, descriptors.IOMMUFD, descriptors.device(0)]:
    os.close(number)
try:
    os.pwrite(descriptors.device(0), b"x", 7 << 40)
except OSError as error:
    pwrite = error.errno
spare = data + 1
say(asked=[precopy(data), info(descriptors.device(0)),
           ask(descriptors.IOMMUFD, Iommu.IOAS_ALLOC, bytearray(12)), precopy(spare)],
    read=[read(data), read(spare)], write=[write(data), write(spare)], pwrite=pwrite)
""")
    assert said == {"asked": [9] * 4, "read": [-9, -9], "write": [-9, -9], "pwrite": 9}


def test_a_data_descriptor_is_its_sessions_only() -> None:
    """drivers/vfio/pci/mlx5/main.c: mlx5vf_save_read, mlx5vf_resume_write, mlx5vf_precopy_ioctl."""
    said = run("""
bind()
seen = {}
saving = state("pre-copy")[1]
seen["saving"] = [read(saving), write(saving), write(saving, 100000), precopy(saving)]
state("stop")
seen["stopped"] = [read(saving), precopy(saving)]
state("running")
second = state("pre-copy")[1]
seen["old"] = [read(saving), write(saving), precopy(saving)]
seen["new"] = [read(second), precopy(second)]
state("stop")
resuming = state("resuming")[1]
seen["resuming"] = [write(resuming), write(resuming, 100000), read(resuming), precopy(resuming)]
seen["position"] = [-call("pread64", resuming, 0, 0, 0), -call("pwrite64", saving, 0, 0, 0)]
ask(descriptors.device(0), Vfio.DEVICE_RESET, 0)
seen["reset"] = [write(resuming), write(resuming, 0), write(resuming, 100000), read(saving)]
state("stop")
third = state("resuming")[1]
seen["again"] = [write(resuming), write(third), len({saving, second, resuming, third})]
say(**seen)
""")
    assert said == {
        "saving": [4096, -9, -9, 0],
        "stopped": [-19, 22],
        "old": [-19, -9, 19],
        "new": [4096, 0],
        "resuming": [16, 100000, -9, 25],
        "position": [29, 29],
        "reset": [-19, -19, -1, -19],
        "again": [-19, 16, 4],
    }


def test_many_sessions_that_are_left_open_are_kept_apart() -> None:
    said = run("""
bind()
sessions = [state(word)[1] for word in ["pre-copy", "running"] * 40][::2]
supervisor = os.getppid()
say(different=len(set(sessions)), last=[read(n) for n in sessions[-2:]],
    open=len(os.listdir(f"/proc/{supervisor}/fd")))
""")
    assert said["different"] == 40
    assert said["last"] == [-19, -19]
    assert isinstance(said["open"], int)
    assert said["open"] < 30


def test_more_sessions_than_there_are_numbers_is_emfile() -> None:
    done = supervised.run(
        READ
        + """
bind()
sessions = [state(word) for word in ["pre-copy", "running"] * 70][::2]
os.close(sessions[3][1])
state("running")
again = state("pre-copy")
say(errnos=[said for said, number in sessions if said], again=again[1] == sessions[3][1],
    data=read(again[1]))
""",
        [DEVICE],
    )
    assert done.said == {"errnos": [24] * 6, "again": True, "data": 4096}
    assert "all numbers for migration data are taken" in done.problems[0]


@pytest.mark.parametrize("files", [256, 512, 4096])
def test_any_limit_of_open_files_will_do(files: int) -> None:
    said = run(
        """
import resource
bind()
data = state("pre-copy")[1]
say(read=read(data), below=data < resource.getrlimit(resource.RLIMIT_NOFILE)[0])
""",
        files=files,
    )
    assert said == {"read": 4096, "below": True}


def test_small_writes_are_no_news_unless_somebody_watches() -> None:
    """The analysis would take the few that are notified for all."""
    done = supervised.run(
        READ
        + """
bind()
state("stop")
say(written=write(state("resuming")[1]))
""",
        [DEVICE],
    )
    assert done.said == {"written": 16}
    assert [entry for entry in done.log if entry.get("call") == "write"] == []
