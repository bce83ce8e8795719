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
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24


class Instruction(NamedTuple):
    """`struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    value: int


def program(arch: Arch, *, writes: bool = False) -> list[Instruction]:
    """What is notified: ioctl of VFIO's and iommufd's type, and KVM_SET_DEVICE_ATTR; pwrite64 to a
    device; read from a data descriptor and, with `writes`, write to one.
    """
    ioctl = [
        Instruction(_LOAD, 0, 0, _ARG1),
        Instruction(_EQUAL, 3, 0, abi_filter.KVM_SET_DEVICE_ATTR),
        Instruction(_SHIFT, 0, 0, 8),
        Instruction(_AND, 0, 0, 0xFF),
        Instruction(_EQUAL, 0, 1, abi_filter.IOC_TYPE),
        Instruction(_RETURN, 0, 0, abi_filter.RET_USER_NOTIF),
        Instruction(_RETURN, 0, 0, abi_filter.RET_ALLOW),
    ]
    cases = [
        (arch.ioctl, ioctl),
        (arch.pwrite64, _descriptor_in(descriptors.DEVICES)),
        (arch.read, _descriptor_in(descriptors.DATA)),
    ]
    if writes:
        cases.append((arch.write, _descriptor_in(descriptors.DATA)))
    whole = [
        Instruction(_LOAD, 0, 0, _ARCH),
        Instruction(_EQUAL, 1, 0, arch.audit),
        Instruction(_RETURN, 0, 0, abi_filter.RET_ALLOW),
        Instruction(_LOAD, 0, 0, _NR),
    ]
    for number, block in cases:
        whole.append(Instruction(_EQUAL, 0, len(block), number))
        whole += block
    whole.append(Instruction(_RETURN, 0, 0, abi_filter.RET_ALLOW))
    return whole


def _descriptor_in(numbers: tuple[int, int]) -> list[Instruction]:
    """Notify if the first argument is one of these; both ends are in."""
    return [
        Instruction(_LOAD, 0, 0, _ARG0),
        Instruction(_GREATER_EQUAL, 0, 2, numbers[0]),
        Instruction(_GREATER, 1, 0, numbers[1]),
        Instruction(_RETURN, 0, 0, abi_filter.RET_USER_NOTIF),
        Instruction(_RETURN, 0, 0, abi_filter.RET_ALLOW),
    ]


def pack(instructions: list[Instruction]) -> bytes:
    """As the kernel takes it."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
