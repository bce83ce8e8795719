"""QEMU's part, for a device that is asked directly: its structures, in memory."""

import errno
import os
from typing import Any

from qmptests.vfio import abi, calls
from qmptests.vfio.abi import Feature, FeatureFlag, MigrationFlag, Vfio
from qmptests.vfio.calls import Answer, Call
from qmptests.vfio.device import Device
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.memory import ProcessMemory
from qmptests.vfio.sources import FileSource, ProcessSource
from qmptests.vfio.spec import Spec
from qmptests.vfio.words import state_of

PAGE = 4096
GET, SET, PROBE = FeatureFlag.GET, FeatureFlag.SET, FeatureFlag.PROBE
ALL = MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY
#: Where a structure lies.
AT = 0x1000


class Events:
    """Event descriptors that have the caller's own numbers; those of `others` are something else,
    and BAD is not open.
    """

    BAD = 99

    def __init__(self, *others: int) -> None:
        self.others = others
        self.open: list[int] = []
        self.came: list[int] = []
        self.watched: list[int] = []

    def descriptor(self, number: int) -> int:
        """What the caller has."""
        if number == self.BAD:
            raise OSError(errno.EBADF, "not open")
        self.open.append(number)
        return number

    def accept(self, descriptor: int) -> int:
        """As `interrupts.Events`, as all that follows."""
        if descriptor in self.others:
            self.drop(descriptor)
            raise OSError(errno.EINVAL, "no event descriptor")
        return descriptor

    def signal(self, descriptor: int) -> None:
        """It came."""
        assert descriptor in self.open
        self.came.append(descriptor)

    def watch(self, descriptor: int) -> None:
        """It is listened to."""
        self.watched.append(descriptor)

    def drop(self, descriptor: int) -> None:
        """It is ours no longer."""
        self.open.remove(descriptor)
        if descriptor in self.watched:
            self.watched.remove(descriptor)


class Arena:
    """64 KiB of memory from address AT on, and descriptors."""

    def __init__(self, events: Events) -> None:
        self.data = bytearray(0x10000)
        self.descriptor = events.descriptor

    def read(self, address: int, length: int) -> bytes:
        """Those bytes; EFAULT outside."""
        return bytes(self.data[self._at(address, length)])

    def write(self, address: int, data: bytes) -> None:
        """Put them there; EFAULT outside."""
        self.data[self._at(address, len(data))] = data

    def source(self) -> ProcessSource:
        """This process's own memory."""
        return ProcessSource(ProcessMemory(os.getpid()), os.getpid())

    def file(self, number: int, end: int) -> FileSource:  # noqa: ARG002
        """One of this process."""
        return FileSource(os.dup(number))

    def is_iommufd(self, number: int) -> bool:
        """Numbers below 10 are."""
        if number == Events.BAD:
            raise OSError(errno.EBADF, "not open")
        return number < 10

    def _at(self, address: int, length: int) -> slice:
        if address < AT or address + length > AT + len(self.data):
            raise OSError(errno.EFAULT, f"nothing at {address:#x}")
        return slice(address - AT, address - AT + length)


class Caller:
    """A device, and calls to it with what they are answered. Time is `now`, in seconds."""

    def __init__(self, spec: Spec, *, bind: bool = True) -> None:
        self.events = Events()
        self.memory = Arena(self.events)
        self.iommufd = Iommufd()
        self.device = Device(spec, self.iommufd)
        self.device.interrupts.events = self.events
        self.now = 0.0
        if bind:
            record = abi.BindIommufd(abi.BIND_IOMMUFD.size, 0, 5, 0)
            answer, _ = self.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, record)
            assert answer == Answer()

    def ask(
        self, request: int, layout: abi.Layout[Any], record: Any, role: str = "device"
    ) -> tuple[Answer, Any]:
        """An ioctl with that structure: its answer, and the structure afterwards."""
        self.memory.write(AT, layout.pack(record))
        call = calls.decode(role, request, AT, self.memory)
        asked = self.iommufd if role == "iommufd" else self.device
        answer = asked.handle(call, self.memory, self.now)
        return answer, layout.unpack(self.memory.read(AT, layout.size))

    def feature(
        self, number: int, flags: int, data: bytes = b"", argsz: int | None = None
    ) -> tuple[Answer, bytes]:
        """VFIO_DEVICE_FEATURE: its answer, and the feature's data afterwards."""
        size = abi.FEATURE_HEADER.size
        header = abi.FeatureHeader(size + len(data) if argsz is None else argsz, number | flags)
        self.memory.write(AT, abi.FEATURE_HEADER.pack(header) + data)
        call = calls.decode("device", Vfio.DEVICE_FEATURE, AT, self.memory)
        answer = self.device.handle(call, self.memory, self.now)
        return answer, self.memory.read(AT + size, len(data))

    def set_state(self, word: str) -> Answer:
        """Its data_fd is 0 before; -1 is left there where the answer opens nothing."""
        record = abi.FeatureMigState(state_of(word), 0)
        return self.set_state_number(record)

    def set_state_number(self, record: abi.FeatureMigState) -> Answer:
        """The same for any number."""
        data = abi.FEATURE_MIG_STATE.pack(record)
        answer, after = self.feature(Feature.MIG_DEVICE_STATE, SET, data)
        assert abi.FEATURE_MIG_STATE.unpack(after) == (record.device_state, -1)
        assert answer.opens_at == (AT + 12 if answer.opens else 0)
        return answer

    def state(self) -> int:
        """What GET of MIG_DEVICE_STATE says."""
        answer, after = self.feature(Feature.MIG_DEVICE_STATE, GET, bytes(8))
        state, data_fd = abi.FEATURE_MIG_STATE.unpack(after)
        assert answer == Answer()
        assert data_fd == -1
        return state

    def opt_in(self) -> Answer:
        """SET of MIG_PRECOPY_INFOv2."""
        return self.feature(Feature.MIG_PRECOPY_INFOV2, SET)[0]

    def data_size(self) -> int:
        """What MIG_DATA_SIZE says."""
        answer, after = self.feature(Feature.MIG_DATA_SIZE, GET, bytes(8))
        assert not answer.errno
        return int.from_bytes(after, "little")

    def precopy_info(self, flags: int = 0, argsz: int = 24) -> abi.PrecopyInfo | int:
        """What GET_PRECOPY_INFO says, or its errno."""
        record = abi.PrecopyInfo(argsz, flags, 7, 7)
        answer, after = self.ask(Vfio.MIG_GET_PRECOPY_INFO, abi.PRECOPY_INFO, record, role="data")
        if answer.errno:
            assert after == record, "a call that fails leaves the structure alone"
            return answer.errno
        assert isinstance(after, abi.PrecopyInfo)
        return after

    def read(self, count: int = 1 << 20) -> Answer:
        """read() on the data descriptor."""
        call = Call("read", AT, count, detail=(("length", count),))
        return self.device.handle(call, self.memory, self.now)

    def read_all(self) -> list[tuple[str, int, int]]:
        """Read until there is nothing: kind, generation and bytes of each piece."""
        pieces: list[tuple[str, int, int]] = []
        while (span := self.read().span) is not None:
            pieces.append((span.kind.name, span.generation, span.length))
        return pieces

    def reset(self) -> Answer:
        """VFIO_DEVICE_RESET."""
        return self.device.handle(Call("reset"), self.memory, self.now)
