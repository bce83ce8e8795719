"""The filter, run by an interpreter of classic BPF for both processors, does what it promises."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi, arch, bpf, descriptors
from qmptests.vfio.arch import Arch

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


def verdict(
    here: Arch, number: int, *arguments: int, writes: bool = False, audit: int | None = None
) -> int:
    data = struct.pack("<iIQ", number, here.audit if audit is None else audit, 0)
    data += struct.pack("<6Q", *arguments, *[0] * (6 - len(arguments)))
    return run(bpf.pack(bpf.program(here, writes=writes)), data)


ARCHS = pytest.mark.parametrize("here", [arch.X86_64, arch.AARCH64], ids=lambda a: a.name)
FDS = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1))


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
@given(descriptor=FDS)
def test_only_our_descriptors_are_notified(here: Arch, descriptor: int) -> None:
    device = 0 <= descriptor - descriptors.device(0) < descriptors.MOST
    data = descriptors.is_data(descriptor)
    assert (verdict(here, here.pwrite64, descriptor) == NOTIFIED) is device
    assert (verdict(here, here.read, descriptor) == NOTIFIED) is data
    assert verdict(here, here.write, descriptor) == ALLOWED
    assert (verdict(here, here.write, descriptor, writes=True) == NOTIFIED) is data
    assert verdict(here, here.pread64, descriptor) == ALLOWED


@ARCHS
@given(number=st.integers(0, 600), descriptor=FDS)
def test_no_other_system_call_is(here: Arch, number: int, descriptor: int) -> None:
    if number not in (here.ioctl, here.read, here.write, here.pwrite64):
        assert verdict(here, number, descriptor, writes=True) == ALLOWED


def test_a_call_of_another_processor_is_the_kernels() -> None:
    here = arch.X86_64
    assert verdict(here, here.ioctl, 200, 0x3B81) == NOTIFIED
    assert verdict(here, here.ioctl, 200, 0x3B81, audit=0x40000003) == ALLOWED  # i386


def test_the_numbers_of_devices_and_data_do_not_meet() -> None:
    devices = {descriptors.device(n) for n in range(descriptors.MOST)}
    data = {descriptors.data(n, turn) for n in range(descriptors.MOST) for turn in range(2)}
    assert len(devices) + len(data) == 3 * descriptors.MOST
    assert not devices & data
    assert descriptors.IOMMUFD not in devices | data
    for n in range(descriptors.MOST):
        assert descriptors.device_of(descriptors.device(n)) == n
        assert {descriptors.device_of(descriptors.data(n, turn)) for turn in range(4)} == {n}
