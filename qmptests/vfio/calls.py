"""What QEMU asks of a device, in words: a system call becomes a `Call`, which is answered.

Names are those of the call log, of scripts and of the documentation. Pure: memory is read through
`Memory`, so that a test can be QEMU.
"""

import errno
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from qmptests.vfio import abi
from qmptests.vfio.abi import Feature, FeatureFlag, Iommu, Vfio
from qmptests.vfio.iova import PAGE, Source
from qmptests.vfio.requests import FEATURES, REQUESTS, SET_STATE, Detail
from qmptests.vfio.words import feature_word, state_of, state_word

__all__ = [
    "Answer",
    "Call",
    "Caller",
    "Detail",
    "Kind",
    "Memory",
    "Span",
    "Unknown",
    "decode",
    "decode_kvm",
    "state_of",
    "state_word",
]


class Memory(Protocol):
    """The caller's memory. Both raise OSError (EFAULT) for what is not mapped there."""

    def read(self, address: int, length: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class Caller(Memory, Protocol):
    """The process that makes a call."""

    def descriptor(self, number: int) -> int:
        """A duplicate of its descriptor, which is ours. Raises OSError (EBADF)."""

    def source(self) -> Source | None:
        """Its memory, for longer than the call; None where there is nothing to take hold of."""

    def file(self, number: int, end: int) -> Source | None:
        """The file that is its descriptor of that number. Raises OSError: EBADF if that is not
        open; EINVAL for a device's registers (a dma-buf) that end before `end`.
        """

    def is_iommufd(self, number: int) -> bool:
        """Whether its descriptor of that number is an iommufd. Raises OSError (EBADF)."""


class Call(NamedTuple):
    """One call: its name, where its argument lies, the argument unpacked, and what a log shows.

    `argument` is the record of `abi` that belongs to `name`, for a feature the feature's own, and
    the feature's number for `probe` and `feature`; None if the caller's structure is too short for
    it: EINVAL, at the place where a driver looks at it. `payload` is the address of that record;
    `size` what the caller says its structure has (argsz or size); `flags` all of a feature's but
    its number: GET, SET and PROBE; `detail` what tells one call from another of its name, as pairs.
    `errno`: with this the kernel refuses the call before any driver sees it (`argument` is None).
    """

    name: str
    address: int = 0
    argument: Any = None
    payload: int = 0
    size: int = 0
    flags: int = 0
    detail: Detail = ()
    errno: int = 0


class Kind(IntEnum):
    """What a piece of a device's data stream is."""

    INITIAL = 1
    DIRTY = 2
    STOP_COPY = 3
    END = 4


class Span(NamedTuple):
    """A piece of a device's data stream: `length` bytes from position `start`, all of one kind.

    `generation`: 0, and one more with each REINIT.
    """

    start: int
    length: int
    kind: Kind
    generation: int


class Answer(NamedTuple):
    """What a call is answered: `errno` (positive), or `value`, which is 0 for a plain success.

    `opens`: a data descriptor that QEMU is to get ("saving" or "resuming"); its number belongs at
    address `opens_at`. `dma_buf`: it is to get a descriptor for so many bytes of a BAR, in so
    many ranges, whose number is the value; `cloexec`: that one is closed on an exec. `span`: what
    a read delivers (`value` is its length). `delay_s`: how long the answer takes. `detail`: what
    the log shows of it, as pairs.
    """

    errno: int = 0
    value: int = 0
    opens: str = ""
    opens_at: int = 0
    dma_buf: int = 0
    dma_buf_ranges: int = 1
    cloexec: bool = False
    span: Span | None = None
    delay_s: float = 0.0
    detail: Detail = ()


class Unknown(Exception):
    """A call that no device of ours knows; its text names it."""


_HEADER = abi.FEATURE_HEADER.size
_NUMBER = int(FeatureFlag.MASK)
_PROBE, _SETS = int(FeatureFlag.PROBE), int(FeatureFlag.SET)
_STATE, _FEATURE = int(Feature.MIG_DEVICE_STATE), int(Vfio.DEVICE_FEATURE)
#: The longest of them with its header: memory is read once.
_MOST = _HEADER + max(kind.layout.size for kind in FEATURES.values() if kind.layout)


def decode(role: str, request: int, address: int, memory: Memory) -> Call:
    """The call that an ioctl `request` is, on a descriptor that is "device", "iommufd" or "data".

    What lies at `address` is read once. Raises Unknown for a request that no such descriptor of
    ours answers.
    """
    known = REQUESTS[role].get(request)
    if known is None:
        if role == "device":
            if request == _FEATURE:
                return _decode_feature(address, memory)
            if request == Vfio.DEVICE_RESET:
                return Call("reset", address)
        if role == "iommufd" and request & 0xFF in _NUMBERS:
            memory.read(address, 4)
        raise Unknown(_explain(role, request))
    name, layout, minimum, show, strict = known
    try:
        data = _read(memory, address, layout.size, 4 if strict else minimum)
        size = int.from_bytes(data[:4], "little")
        if size < minimum:
            return Call(name, address, None, address, size, errno=errno.EINVAL)
        end = address + min(size, layout.size + MOST_IGNORED)
        if strict and not _zeros(memory, address + layout.size, end):
            return Call(name, address, None, address, size, errno=errno.E2BIG)
    except OSError as error:
        return _unreadable(name, address, error)
    record = layout.unpack(data[:size])
    return Call(name, address, record, address, size, 0, show(record))


def _decode_feature(address: int, memory: Memory) -> Call:
    try:
        data = _read(memory, address, _MOST, _HEADER)
    except OSError as error:
        return _unreadable("feature", address, error)
    size, flags = abi.FEATURE_HEADER.unpack(data)
    number = flags & _NUMBER
    flags -= number
    payload = address + _HEADER
    if size < _HEADER:
        return Call("feature", address, None, payload, size, flags, errno=errno.EINVAL)
    kind = FEATURES.get(number)
    if kind is None or flags & _PROBE:
        name = "probe" if flags & _PROBE else "feature"
        detail = (("feature", feature_word(number)),)
        return Call(name, address, number, payload, size, flags, detail)
    if number == _STATE and flags & _SETS:
        kind = SET_STATE
    name, layout, show = kind
    if layout is None or size < _HEADER + layout.size:
        return Call(name, address, None, payload, size, flags)
    record = layout.unpack(data[_HEADER:])
    return Call(name, address, record, payload, size, flags, show(record))


def decode_kvm(address: int, memory: Memory) -> Call | None:
    """KVM_SET_DEVICE_ATTR, if it adds a device of ours to KVM's VFIO device or takes it away.

    None for anything else, which is the kernel's: the same numbers mean other things to other
    devices of KVM's, so it only is such a call if the descriptor in its detail is one of ours.
    """
    try:
        attr = abi.KVM_DEVICE_ATTR.unpack(memory.read(address, abi.KVM_DEVICE_ATTR.size))
        name = _KVM_FILE.get(attr.attr) if attr.group == abi.KVM_DEV_VFIO_FILE else None
        if name is None:
            return None
        number = int.from_bytes(memory.read(attr.addr, 4), "little", signed=True)
    except OSError:
        return None
    return Call(name, address, attr, address, detail=(("fd", number),))


_KVM_FILE = {
    abi.KVM_DEV_VFIO_FILE_ADD: "kvm-file-add",
    abi.KVM_DEV_VFIO_FILE_DEL: "kvm-file-del",
}


def _read(memory: Memory, address: int, longest: int, shortest: int) -> bytes:
    """`longest` bytes; only as many as the caller says there are, where memory ends before that."""
    try:
        return memory.read(address, longest)
    except OSError:
        size = int.from_bytes(memory.read(address, shortest)[:4], "little")
        return memory.read(address, max(shortest, min(size, longest)))


#: Bytes of a caller's that say nothing to us: no more are looked at, or cleared, since all other
#: calls wait meanwhile.
MOST_IGNORED = 16 << 20
#: What is looked at in one go, of what a newer caller has that we know nothing of.
_ZEROS = bytes(1 << 20)


def _zeros(memory: Memory, begin: int, end: int) -> bool:
    """Whether there is nothing but zeros (check_zeroed_user). Raises OSError (EFAULT) if they end
    before anything else came.
    """
    while begin < end:
        length = min(end - begin, len(_ZEROS))
        try:
            data = memory.read(begin, length)
        except OSError:  # it ends here: page by page
            length = min(end - begin, PAGE - begin % PAGE)
            data = memory.read(begin, length)
        if data != _ZEROS[:length]:
            return False
        begin += length
    return True


def _unreadable(name: str, address: int, error: OSError) -> Call:
    if error.errno != errno.EFAULT:
        raise error
    return Call(name, address, errno=errno.EFAULT)


#: An iommufd looks for the size before it looks at the request (iommufd_fops_ioctl).
_NUMBERS = range(min(Iommu) & 0xFF, (max(Iommu) & 0xFF) + 1)

_ROLES = {"device": "a device", "iommufd": "an iommufd", "data": "a migration data descriptor"}


def _explain(role: str, request: int) -> str:
    """What Unknown says."""
    called = f"{_ROLES[role]} was asked {request:#x}"
    for other, requests in REQUESTS.items():
        if request in requests:
            return f"{called}, {requests[request].name}, which is a request on {_ROLES[other]}"
    if request in (Vfio.DEVICE_FEATURE, Vfio.DEVICE_RESET):
        return f"{called}, VFIO_{Vfio(request).name}, which is a request on {_ROLES['device']}"
    try:
        return f"{called}, {abi.OtherRequest(request).name}, which the emulation does not answer"
    except ValueError:
        number = request & 0xFF
        return f"{called}, number {number} of VFIO's and iommufd's, which linux 7.3 does not define"
