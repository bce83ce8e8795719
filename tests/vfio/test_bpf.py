"""The filter, run by an interpreter of classic BPF for both processors, does what it promises."""

import fcntl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi, arch, bpf, descriptors
from qmptests.vfio.arch import Arch
from qmptests.vfio.regions import REGION_SHIFT

NOTIFIED, ALLOWED = abi.RET_USER_NOTIF, abi.RET_ALLOW


def run(program: bytes, data: bytes) -> int:
    """What the kernel would make of it (net/core/filter.c knows no other of these codes)."""
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x74:
            accumulator >>= value
        elif operation == 0x15:
            at += if_true if accumulator == value else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= value else if_false
        elif operation == 0x25:
            at += if_true if accumulator > value else if_false
        else:
            assert operation == 0x06
            return int(value)


DEVICES, DATA = 3, range(960, 1024)


def verdict(
    here: Arch, number: int, *arguments: int, writes: bool = False, audit: int | None = None
) -> int:
    data = struct.pack("<iIQ", number, here.audit if audit is None else audit, 0)
    data += struct.pack("<6Q", *arguments, *[0] * (6 - len(arguments)))
    return run(bpf.pack(bpf.program(here, DEVICES, DATA, writes=writes)), data)


ARCHS = pytest.mark.parametrize("here", [arch.X86_64, arch.AARCH64], ids=lambda a: a.name)
FDS = st.one_of(st.integers(190, 220), st.integers(950, 1030), st.integers(0, 2**32 - 1))
SIZES = st.one_of(st.integers(0, 2 * bpf.SMALL), st.integers(0, 2**64 - 1))


@ARCHS
@given(descriptor=FDS, request=st.integers(0, 2**32 - 1), high=st.integers(0, 2**32 - 1))
def test_of_ioctls_those_of_vfio_iommufd_and_one_of_kvm_are_notified(
    here: Arch, descriptor: int, request: int, high: int
) -> None:
    wanted = request == abi.KVM_SET_DEVICE_ATTR or request >> 8 & 0xFF == ord(";")
    for word in (request, high << 32 | request):  # the kernel takes the lower half
        assert verdict(here, here.ioctl, descriptor, word) == (NOTIFIED if wanted else ALLOWED)


@ARCHS
@pytest.mark.parametrize(
    "request_number", [*abi.Vfio, *abi.Iommu, abi.KVM_SET_DEVICE_ATTR], ids=hex
)
def test_every_request_that_we_know_is_notified(here: Arch, request_number: int) -> None:
    assert verdict(here, here.ioctl, 200, request_number) == NOTIFIED


@ARCHS
@given(descriptor=FDS, size=SIZES)
def test_only_our_descriptors_are_notified(here: Arch, descriptor: int, size: int) -> None:
    device = descriptor in descriptors.devices(DEVICES)
    data = descriptor in DATA
    small = size <= bpf.SMALL
    for number in (here.read, here.dup):
        assert (verdict(here, number, descriptor) == NOTIFIED) is data
    for number in (here.pread64, here.pwrite64):
        assert (verdict(here, number, descriptor) == NOTIFIED) is (data or device)
    assert (verdict(here, here.mmap, 0, 0, 0, 0, descriptor) == NOTIFIED) is device
    assert (verdict(here, here.write, descriptor, 0, size) == NOTIFIED) is (data and small)
    assert (verdict(here, here.write, descriptor, 0, size, writes=True) == NOTIFIED) is data


@ARCHS
@given(descriptor=FDS, offset=st.integers(0, 2**64 - 1))
def test_access_to_a_region_is_notified_on_any_number(
    here: Arch, descriptor: int, offset: int
) -> None:
    """But for BAR 0, whose offsets are those of ordinary files."""
    ours = descriptor in DATA or descriptor in descriptors.devices(DEVICES)
    expected = offset >= 1 << REGION_SHIFT or ours
    for number in (here.pread64, here.pwrite64):
        assert (verdict(here, number, descriptor, 0, 0, offset) == NOTIFIED) is expected


@ARCHS
@given(descriptor=FDS, command=st.one_of(st.sampled_from([0, 1030]), st.integers(0, 2000)))
def test_data_descriptors_that_are_duplicated_are_notified(
    here: Arch, descriptor: int, command: int
) -> None:
    expected = descriptor in DATA and command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC)
    assert (verdict(here, here.fcntl, descriptor, command) == NOTIFIED) is expected


def memorys_own(here: Arch) -> tuple[int, ...]:
    """What can be done to memory, and to no device."""
    return here.lseek, here.ftruncate, here.fallocate


@ARCHS
@given(descriptor=FDS)
def test_what_can_only_be_done_to_memory(here: Arch, descriptor: int) -> None:
    data = descriptor in DATA
    ours = data or descriptor in descriptors.devices(DEVICES)
    for number in memorys_own(here):
        assert verdict(here, number, descriptor) == (NOTIFIED if ours else ALLOWED)
    seals = verdict(here, here.fcntl, descriptor, fcntl.F_ADD_SEALS)
    assert seals == (NOTIFIED if data else ALLOWED)


@ARCHS
@given(number=st.integers(0, 600), descriptor=FDS)
def test_no_other_system_call_is(here: Arch, number: int, descriptor: int) -> None:
    notified = (here.ioctl, here.read, here.write, here.pread64, here.pwrite64, here.dup)
    if number not in (*notified, here.fcntl, here.mmap, *memorys_own(here)):
        assert verdict(here, number, descriptor, writes=True) == ALLOWED


def test_a_call_of_another_processor_is_the_kernels() -> None:
    here = arch.X86_64
    assert verdict(here, here.ioctl, 200, 0x3B81) == NOTIFIED
    assert verdict(here, here.ioctl, 200, 0x3B81, audit=0x40000003) == ALLOWED  # i386


@pytest.mark.parametrize("limit", [256, 300, 1000, 1024, 4096, 1 << 20, -1])
def test_the_numbers_of_devices_and_data_do_not_meet(limit: int) -> None:
    data = descriptors.data(limit)
    assert len(data) > 4 * descriptors.MOST
    assert data[0] > descriptors.device(descriptors.MOST - 1) > descriptors.IOMMUFD
    assert data[-1] < (limit if limit >= 0 else 1024)
    assert data[-1] < 1024, "select(2) has no more"


def test_without_devices_none_is_notified() -> None:
    here = arch.X86_64
    program = bpf.pack(bpf.program(here, 0, DATA))
    data = struct.pack("<iIQ6Q", here.pwrite64, here.audit, 0, descriptors.device(0), *[0] * 5)
    assert run(program, data) == ALLOWED
