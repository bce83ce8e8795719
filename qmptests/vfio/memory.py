"""Another process's memory.

It is opened by a thread's number, which may be somebody else's a moment later. So whoever opens it
checks once, afterwards, that the call for which it was opened still waits (seccomp_unotify(2),
SECCOMP_IOCTL_NOTIF_ID_VALID); from then on it stays what it is.
"""

import errno
import fcntl
import os
import struct

from qmptests.vfio import abi

_READABLE, _WRITABLE = int(abi.ProcmapFlag.READABLE), int(abi.ProcmapFlag.WRITABLE)
#: What is not mapped; a program may do all with it, and fail.
_NOWHERE = (0, 0, _READABLE | _WRITABLE)
_REQUEST = abi.PROCMAP_QUERY
#: What a question about a mapping has, and the part of its answer that is looked at.
_QUESTION = struct.Struct(f"<QQQ{abi.PROCMAP.size - 24}x")
_ANSWER = struct.Struct("<24xQQQ")
#: Processes whose mappings are kept open: QEMU is one, and a shell or two may be before it.
_MOST_OPEN = 4


class ProcessMemory:
    """The memory of the program that a thread runs when this is made (/proc/PID/mem, proc(5)).

    When that program has ended, or begun another by exec(2), there is nothing to read or write any
    more: both raise OSError (EFAULT), as where nothing is mapped, and as where the program itself
    may not read or write. (/proc/PID/mem lets everything through, so the mappings are asked; before
    Linux 6.11 they can't be.)
    """

    def __init__(self, thread: int, mappings: "Mappings | None" = None) -> None:
        self.thread = thread
        self._mappings = mappings
        #: The mapping that was asked about last: begin, end, flags.
        self._begin = self._end = self._flags = 0
        self._fd = os.open(f"/proc/{thread}/mem", os.O_RDWR | os.O_CLOEXEC)

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from `address`."""
        try:
            self._permit(address, length, _READABLE)
            data = os.pread(self._fd, length, address)
        except (OSError, OverflowError) as error:
            raise self.fault(address) from error
        if len(data) < length:
            raise self.fault(address)
        return data

    def write(self, address: int, data: "bytes | memoryview") -> None:
        """Put `data` at `address`: all of it or, where a part can't be, nothing."""
        length = len(data)
        try:
            self._permit(address, length, _WRITABLE)
            written = os.pwrite(self._fd, data, address)
        except (OSError, OverflowError) as error:
            raise self.fault(address) from error
        if written < length:
            raise self.fault(address)

    def can_write(self, address: int) -> bool:
        """Whether `write` could put a byte there."""
        try:
            self._permit(address, 1, _WRITABLE)
            return bool(os.pread(self._fd, 1, address))
        except (OSError, OverflowError):
            return False

    def fault(self, address: int) -> OSError:
        """The error for what can't be read or written there."""
        return OSError(errno.EFAULT, f"{os.strerror(errno.EFAULT)}: {address:#x}")

    def _permit(self, address: int, length: int, flag: int) -> None:
        """Raise OSError (EFAULT) if the program itself may not do this with one of these bytes."""
        if self._mappings is None:
            return
        end = address + length
        while address < end:
            if not self._begin <= address < self._end:
                mapping = self._mappings.at(self.thread, address, flag)
                if mapping is None:
                    return  # to be seen when it is used
                self._begin, self._end, self._flags = mapping
            if not self._flags & flag:
                raise OSError(errno.EFAULT, "forbidden")
            address = self._end

    def keep(self) -> "ProcessMemory":
        """The same, to be used after this one has been closed; how it is mapped is not asked."""
        kept = ProcessMemory.__new__(ProcessMemory)
        kept.thread, kept._mappings = self.thread, None
        kept._fd = fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 0)
        return kept

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


class Mappings:
    """What the mappings of a few processes allow, whose /proc/PID/maps are kept open.

    Which are open goes by the thread's number, so an answer may be of a program that ran before.
    A refusal is therefore asked again, of what the number stands for now.
    """

    def __init__(self) -> None:
        self._open: dict[int, int] = {}

    def at(self, thread: int, address: int, flag: int) -> tuple[int, int, int] | None:
        """Begin, end and flags (`ProcmapFlag`) of the mapping that has `address`.

        None for what is not mapped, or can't be asked about. Raises OSError if the thread has
        ended, OverflowError for an address beyond 64 bits.
        """
        descriptor = self._open.get(thread, -1)
        mapping = _ask(descriptor, address) if descriptor >= 0 else None
        if mapping is None or not mapping[2] & flag:
            mapping = _ask(self._reopen(thread), address)
        return None if mapping is None or mapping is _NOWHERE else mapping

    def _reopen(self, thread: int) -> int:
        if thread in self._open:
            os.close(self._open.pop(thread))
        elif len(self._open) >= _MOST_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[thread] = os.open(f"/proc/{thread}/maps", os.O_RDONLY | os.O_CLOEXEC)
        return self._open[thread]


def _ask(descriptor: int, address: int) -> tuple[int, int, int] | None:
    """None if the program has ended, or the kernel does not know the question; _NOWHERE."""
    try:
        question = _QUESTION.pack(_QUESTION.size, 0, address)
        return _ANSWER.unpack_from(fcntl.ioctl(descriptor, _REQUEST, question))
    except struct.error as error:
        raise OverflowError(address) from error
    except OSError as error:
        return _NOWHERE if error.errno == errno.ENOENT else None


def process_of(thread: int) -> int:
    """The process that a thread belongs to (proc(5), "Tgid" in `status`). Raises OSError."""
    with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return thread
