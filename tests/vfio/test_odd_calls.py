"""Sizes, offsets and pointers at all ends: the kernel's errno, at once, in bounded memory."""

import pytest

from qmptests.vfio.spec import Bar, Rule, Spec
from tests.vfio import supervised

DEVICE = Spec("vf0", bars=(Bar(0, 1 << 16), Bar(2, 1 << 20, wide=True)), stop_copy=1 << 20)

#: A BAR's answers are vfio_pci_bar_rw()'s, those of configuration space vfio_pci_config_rw()'s.
REGIONS = """
device = descriptors.device(0)
page = mmap.mmap(-1, 1 << 20)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
config, bar0, bar1, bar2, rom = (n << 40 for n in (7, 0, 1, 2, 6))

def write(position, count=4, address=at):
    return call("pwrite64", device, address, count, position)

unbound = [write(config + 0x3c, 1), write(bar0)]
bind()
off = write(bar0)
os.pwrite(device, b"\\x06\\x00", config + 4)
say(unbound=unbound, off=off,
    bar=[write(bar0), write(bar0 + 0x10000), write(bar0 + 0xfffe), write(bar0 + (1 << 39))],
    large=[write(bar2, 1 << 20), write(bar2 + 16, 2 << 20), write(bar2 + 16, 2 << 30)],
    absent=[write(bar1), write(rom), write(8 << 40), write(9 << 40), write(100 << 40)],
    config=[write(config + 4096), write(config + 4094), write(config, 5000)],
    far=[write(1 << 63), write((1 << 64) - 4), write((1 << 63) - 4), write(bar0, 1 << 63)],
    pointer=[write(bar0, 4, 0), write(bar0, 4, 1 << 63), write(config, 4, (1 << 64) - 2)],
    nothing=[write(bar0, 0), write(bar0, 4, at + 1)])
"""


def test_a_write_to_a_region_ends_where_the_region_does() -> None:
    done = supervised.run(REGIONS, [DEVICE])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said == {
        "unbound": [-22, -22],
        "off": -5,
        "bar": [4, -22, 2, -22],
        "large": [1 << 20, (1 << 20) - 16, (1 << 20) - 16],
        "absent": [-22] * 5,
        "config": [-14] * 3,
        "far": [-22, -22, -22, -14],
        "pointer": [-14, -14, -14],
        "nothing": [0, 4],
    }


READS = """
bind()
data = state("stop-copy")[1] if state("stop")[0] == 0 else -1
page = mmap.mmap(-1, 2 << 20)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
libc.mprotect(ctypes.c_void_p(at), 4096, mmap.PROT_READ)
say(read=[call("read", data, address, count) for address, count in
          [(at, 16), (0, 16), ((1 << 64) - 8, 16), (at + 4096, 1 << 63), (at + 4096, 4096)]])
"""


def test_data_is_read_into_writable_memory_only() -> None:
    """What can't be written there is not lost."""
    done = supervised.run(READS, [DEVICE])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said["read"] == [-14, -14, -14, -14, 4096]


IGNORED = """
bind()
page = mmap.mmap(-1, (1 << 32) + 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
answers = []
state("stop")
for size in (32 << 20, (1 << 32) - 1):
    page[0:4] = size.to_bytes(4, "little")
    answers.append(call("ioctl", descriptors.IOMMUFD, int(Iommu.IOAS_ALLOC), at))
    info = abi.HW_INFO.unpack(b"")._replace(
        size=abi.HW_INFO.size, dev_id=1, data_len=size, data_uptr=at)
    buffer = ctypes.create_string_buffer(abi.HW_INFO.pack(info))
    answers.append(
        call("ioctl", descriptors.IOMMUFD, int(Iommu.GET_HW_INFO), ctypes.addressof(buffer)))
    state("stop")
say(answers=answers)
"""


def test_four_gigabytes_that_say_nothing_cost_no_more_than_some_megabytes() -> None:
    """All other calls wait meanwhile: 4 GiB would be 8 s."""
    done = supervised.run(IGNORED, [DEVICE])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said["answers"] == [0, 0, 0, 0]
    begin, some, all_ = (e["cpu_us"] for e in done.log if e.get("call") == "set-state")
    assert all_ - some < 10 * (some - begin)


KILLED = """
from qmptests.vfio import arch
bind()
for _ in range(200):
    child = os.fork()
    if child == 0:
        ask(descriptors.device(0), Vfio.DEVICE_RESET, 0)
        os._exit(1)
    while open(f"/proc/{child}/syscall").read().split()[0] != str(arch.current().ioctl):
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
header = abi.FeatureHeader(16, int(Feature.MIG_DEVICE_STATE | FeatureFlag.GET))
argument = bytearray(abi.FEATURE_HEADER.pack(header) + bytes(8))
say(answered=ask(descriptors.device(0), Vfio.DEVICE_FEATURE, argument),
    open=len(os.listdir(f"/proc/{os.getppid()}/fd")))
"""


@pytest.mark.parametrize("do", ["hold", "delay"])
def test_calls_that_are_killed_while_they_wait_leave_nothing(do: str) -> None:
    rule = Rule("reset", do, value=600 if do == "delay" else 0, times=0)
    device = DEVICE._replace(rules=(rule,))
    done = supervised.run(KILLED, [device])
    assert (done.status, done.problems) == (0, []), (done.stderr, done.problems)
    assert done.said["answered"] == 0
    assert done.said["open"] < 30
