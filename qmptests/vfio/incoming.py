"""From a system call that was notified to what it asks, and of whom.

What the kernel refuses before it asks any driver is refused here (fs/read_write.c,
drivers/vfio/vfio_main.c).
"""

import errno
from typing import NamedTuple

from qmptests.vfio import abi, calls
from qmptests.vfio.arch import Arch
from qmptests.vfio.caller import CallingProcess
from qmptests.vfio.calls import Call
from qmptests.vfio.emulated import BLOCK, Emulated
from qmptests.vfio.files import Duplicate, File, Files
from qmptests.vfio.regions import OFFSET, REGION_SHIFT

#: Of fcntl(2).
F_DUPFD, F_DUPFD_CLOEXEC, F_ADD_SEALS = 0, 1030, 1033
#: Bytes that one pwrite64 writes at most; the rest is left to the next one.
MOST_WRITTEN = 64 << 20
_SIGN = 1 << 63


class Refused(Exception):
    """The call fails with errno `number`, as it does in the kernel, and that is all."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Incoming(NamedTuple):
    """`emulated` is None for a call of the iommufd's own; `session`: the data descriptor's."""

    emulated: Emulated | None
    call: Call
    session: File | None = None


class Decoder:
    """Reads the calls of one program. `writes`: somebody wants to hear of writes of data."""

    def __init__(self, arch: Arch, devices: list[Emulated], files: Files, *, writes: bool) -> None:
        self._writes = writes
        #: What no device can do, though the memory behind it could (fs/read_write.c, fs/open.c).
        self._unable = {
            arch.lseek: errno.ESPIPE,
            arch.ftruncate: errno.EINVAL,
            arch.fallocate: errno.ENODEV,
        }
        self._arch = arch
        self._devices = devices
        self._files = files

    def decode(
        self, notification: abi.Notification, memory: CallingProcess
    ) -> Incoming | Duplicate | int | None:
        """None for a call that is the kernel's, a number for one that returns it and has been
        carried out. Raises Refused, `calls.Unknown`.
        """
        request = notification.arg1 & 0xFFFFFFFF
        if notification.nr == self._arch.ioctl and request == abi.KVM_SET_DEVICE_ATTR:
            call = calls.decode_kvm(notification.arg2, memory)
            return Incoming(None, call) if call and self._adds_ours(call, memory) else None
        maps = notification.nr == self._arch.mmap
        number = (notification.arg4 if maps else notification.arg0) & 0xFFFFFFFF
        file = self._files.find(memory.thread, number)
        if file is None:
            return None
        if maps:
            self._allow_map(file, notification)
            return None
        if notification.nr == self._arch.ioctl:
            return self._ioctl(file, request, notification.arg2, memory)
        if file.role == "spare":
            raise Refused(errno.EBADF)
        if file.role != "iommufd" and notification.nr in self._unable:
            raise Refused(self._unable[notification.nr])
        if file.is_data:
            return self._data(file, notification)
        if file.role != "device":
            return None
        if notification.nr == self._arch.pwrite64:
            return self._region_write(self._devices[file.device], notification, memory)
        if notification.nr == self._arch.pread64:
            return self._region_read(self._devices[file.device], notification, memory)
        return None

    def _adds_ours(self, call: Call, memory: CallingProcess) -> bool:
        file = self._files.find(memory.thread, int(dict(call.detail)["fd"]))
        return file is not None and file.role == "device"

    def _ioctl(self, file: File, request: int, address: int, memory: CallingProcess) -> Incoming:
        if file.role == "iommufd":
            return Incoming(None, calls.decode("iommufd", request, address, memory))
        if file.role == "spare":
            raise Refused(errno.EBADF)
        emulated = self._devices[file.device]
        if file.role == "device":
            if emulated.device.bound_at is None and request != abi.Vfio.DEVICE_BIND_IOMMUFD:
                raise Refused(errno.EINVAL)
            call = calls.decode("device", request, address, memory)
            return Incoming(emulated, emulated.device.heard(call))
        if file.role == "resuming":
            raise Refused(errno.ENOTTY)
        call = calls.decode("data", request, address, memory)
        return Incoming(emulated, emulated.device.heard(call), file)

    def _data(self, file: File, notification: abi.Notification) -> Incoming | Duplicate | None:
        """Anything but ioctl. A file that can't be read, or written, is EBADF in the kernel."""
        arch, number = self._arch, notification.arg0 & 0xFFFFFFFF
        if notification.nr == arch.dup:
            return Duplicate(number, 0, cloexec=False)
        if notification.nr == arch.fcntl:
            if notification.arg1 & 0xFFFFFFFF == F_ADD_SEALS:
                raise Refused(errno.EINVAL)
            cloexec = notification.arg1 & 0xFFFFFFFF == F_DUPFD_CLOEXEC
            return Duplicate(number, notification.arg2, cloexec)
        if notification.nr in (arch.pread64, arch.pwrite64):
            raise Refused(errno.ESPIPE)  # it has no positions (stream_open)
        name = "read" if notification.nr == arch.read else "write"
        if (name == "read") != (file.role == "saving"):
            return None
        if notification.arg2 >= _SIGN:  # more than any memory has (access_ok)
            raise Refused(errno.EFAULT)
        emulated = self._devices[file.device]
        if name == "write" and not self._writes:
            if file is emulated.session and emulated.device.state is abi.State.RESUMING:
                return None
            raise Refused(errno.ENODEV)
        count = min(notification.arg2, BLOCK)
        detail = (("length", count),)
        call = Call(name, notification.arg1, count, size=notification.arg2, detail=detail)
        return Incoming(emulated, call, file)

    def _allow_map(self, file: File, notification: abi.Notification) -> None:
        """mmap(2), which is the kernel's. Raises Refused for what may not be mapped."""
        if file.role == "device":
            device = self._devices[file.device].device
            length, flags, position = notification.arg1, notification.arg3, notification.arg5
            bound = device.bound_at is not None
            if number := device.regions.refuses_map(length, flags, position, bound=bound):
                raise Refused(number)

    @staticmethod
    def _region_read(
        emulated: Emulated, notification: abi.Notification, memory: CallingProcess
    ) -> int | None:
        """The kernel reads the registers, but for what is cut at a BAR's end."""
        address, count, position = notification.arg1, notification.arg2, notification.arg3
        device = emulated.device
        bound = device.bound_at is not None
        access = device.regions.access(address, count, position, bound=bound)
        if access.errno:
            raise Refused(access.errno)
        if not access.cut:
            return None
        try:
            return emulated.read_bar(access, memory, address)
        except OSError as error:
            raise Refused(errno.EFAULT) from error

    @staticmethod
    def _region_write(
        emulated: Emulated, notification: abi.Notification, memory: CallingProcess
    ) -> Incoming | int:
        """As vfio_pci_rw() has it; of a BAR that is not large enough only what fits is written."""
        address, count, position = notification.arg1, notification.arg2, notification.arg3
        device = emulated.device
        bound = device.bound_at is not None
        access = device.regions.access(address, count, position, bound=bound)
        if position >= _SIGN or position + count >= _SIGN or not bound:
            raise Refused(access.errno)
        if not count:
            return 0
        region, at = position >> REGION_SHIFT, position & OFFSET
        detail: calls.Detail = (("offset", at), ("length", count))
        if region == abi.Region.CONFIG:
            call = Call("config-write", at, b"", address, count, 0, detail, access.errno)
        else:
            size = min(access.length, MOST_WRITTEN)
            detail = (("region", region), *detail)
            call = Call("bar-write", at, b"", address, size, region, detail, access.errno)
        if call.errno:
            return Incoming(emulated, call)
        try:
            data = memory.read(address, min(call.size, BLOCK))
        except OSError:
            return Incoming(emulated, call._replace(errno=errno.EFAULT))
        shown = (*call.detail, ("data", data[:16].hex()))
        return Incoming(emulated, call._replace(argument=data, detail=shown))
