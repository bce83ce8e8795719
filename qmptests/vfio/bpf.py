"""The seccomp filter: which system calls of QEMU's are notified. All others stay in the kernel.

Classic BPF (linux/filter.h) over `struct seccomp_data` (linux/seccomp.h): the call's number at 0,
the architecture at 4, argument N at 16 + 8 * N, of which the lower half is looked at: descriptors
and ioctl commands have 32 bits. Pure; `interpose` installs it.
"""

import struct
from typing import NamedTuple

from qmptests.vfio import abi_filter, descriptors
from qmptests.vfio.arch import Arch

_LOAD, _RETURN, _AND, _SHIFT, _EQUAL, _GREATER_EQUAL, _GREATER = (
    0x20,  # BPF_LD | BPF_W | BPF_ABS
    0x06,  # BPF_RET | BPF_K
    0x54,  # BPF_ALU | BPF_AND | BPF_K
    0x74,  # BPF_ALU | BPF_RSH | BPF_K
    0x15,  # BPF_JMP | BPF_JEQ | BPF_K
    0x35,  # BPF_JMP | BPF_JGE | BPF_K
    0x25,  # BPF_JMP | BPF_JGT | BPF_K
)
_NR, _ARCH, _ARG0, _ARG1, _ARG2, _ARG2_HIGH, _ARG3_HIGH, _ARG4 = 0, 4, 16, 24, 32, 36, 44, 48
#: Upper half of the second region's offset, which is 1 TiB: hardly any ordinary file is so large.
_FAR = 1 << 8
#: A write of migration data that is no larger can be asked about without making it slower: QEMU's
#: have 32 KiB.
SMALL = 4096
_F_DUPFD, _F_DUPFD_CLOEXEC, _F_ADD_SEALS = 0, 1030, 1033


class Instruction(NamedTuple):
    """`struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    value: int


_NOTIFY = Instruction(_RETURN, 0, 0, abi_filter.RET_USER_NOTIF)
_ALLOW = Instruction(_RETURN, 0, 0, abi_filter.RET_ALLOW)
_IOCTL = [
    Instruction(_LOAD, 0, 0, _ARG1),
    Instruction(_EQUAL, 3, 0, abi_filter.KVM_SET_DEVICE_ATTR),
    Instruction(_SHIFT, 0, 0, 8),
    Instruction(_AND, 0, 0, 0xFF),
    Instruction(_EQUAL, 0, 1, abi_filter.IOC_TYPE),
    _NOTIFY,
    _ALLOW,
]
_SMALL_WRITE = [
    Instruction(_LOAD, 0, 0, _ARG2_HIGH),
    Instruction(_EQUAL, 0, 3, 0),
    Instruction(_LOAD, 0, 0, _ARG2),
    Instruction(_GREATER, 1, 0, SMALL),
    _NOTIFY,
    _ALLOW,
]
_FCNTL = [
    Instruction(_LOAD, 0, 0, _ARG1),
    Instruction(_EQUAL, 2, 0, _F_DUPFD),
    Instruction(_EQUAL, 1, 0, _F_DUPFD_CLOEXEC),
    Instruction(_EQUAL, 0, 1, _F_ADD_SEALS),
    _NOTIFY,
    _ALLOW,
]
_IF_FAR = [
    Instruction(_LOAD, 0, 0, _ARG3_HIGH),
    Instruction(_GREATER_EQUAL, 0, 1, _FAR),
    _NOTIFY,
]


def program(arch: Arch, devices: int, data: range, *, writes: bool = False) -> list[Instruction]:
    """What is notified, of a program that has so many devices, and migration data on those numbers.

    - ioctl of VFIO's and iommufd's type, and KVM_SET_DEVICE_ATTR, on any number;
    - pread64 and pwrite64 of a device, and of anything at such an offset as only regions of devices
      have; mmap of a device;
    - read, pread64, pwrite64 and small writes (with `writes` all) of migration data;
    - dup and F_DUPFD of migration data, so that it is on one of those numbers again;
    - what can be done to memory but not to a device: lseek, ftruncate and fallocate of both,
      F_ADD_SEALS of migration data.
    """
    always = [_NOTIFY]
    numbers = descriptors.devices(devices)
    on_device = _if_in(numbers, always, [_ALLOW]) if devices else [_ALLOW]
    of_device = _if_in(numbers, always, [_ALLOW], argument=_ARG4) if devices else [_ALLOW]
    memorys_own = (arch.lseek, arch.ftruncate, arch.fallocate)
    cases = [
        (arch.ioctl, _IOCTL),
        (arch.read, _if_in(data, always, [_ALLOW])),
        (arch.write, _if_in(data, always if writes else _SMALL_WRITE, [_ALLOW])),
        (arch.pread64, [*_IF_FAR, *_if_in(data, always, on_device)]),
        (arch.pwrite64, [*_IF_FAR, *_if_in(data, always, on_device)]),
        (arch.mmap, of_device),
        *((call, _if_in(data, always, on_device)) for call in memorys_own),
        (arch.dup, _if_in(data, always, [_ALLOW])),
        (arch.fcntl, _if_in(data, _FCNTL, [_ALLOW])),
    ]
    whole = [
        Instruction(_LOAD, 0, 0, _ARCH),
        Instruction(_EQUAL, 1, 0, arch.audit),
        _ALLOW,
        Instruction(_LOAD, 0, 0, _NR),
    ]
    for number, block in cases:
        whole.append(Instruction(_EQUAL, 0, len(block), number))
        whole += block
    whole.append(_ALLOW)
    return whole


def _if_in(
    numbers: range,
    inside: list[Instruction],
    outside: list[Instruction],
    *,
    argument: int = _ARG0,
) -> list[Instruction]:
    """What is done if an argument, the first, is one of these, and if not."""
    return [
        Instruction(_LOAD, 0, 0, argument),
        Instruction(_GREATER_EQUAL, 0, len(inside) + 1, numbers[0]),
        Instruction(_GREATER, len(inside), 0, numbers[-1]),
        *inside,
        *outside,
    ]


def pack(instructions: list[Instruction]) -> bytes:
    """As the kernel takes it."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
