"""Another process's memory: small pieces through /proc/PID/mem, large ones copied by the kernel."""

import ctypes
import errno
import os

from qmptests.vfio import syscalls


class ProcessMemory:
    """The memory of one process. Both ways raise OSError (EFAULT) where nothing is mapped.

    /proc/PID/mem belongs to the program that ran when it was opened (proc(5)): it is opened again
    when an exec has replaced that.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = self._open()

    def _open(self) -> int:
        return os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from `address`."""
        data = self._read(address, length)
        if len(data) < length:  # nothing there, or the program is another one by now
            os.close(self._fd)
            self._fd = self._open()
            data = self._read(address, length)
        if len(data) < length:
            raise _fault(address)
        return data

    def _read(self, address: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, address)
        except (OSError, OverflowError):
            return b""

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`, even where the process itself may only read."""
        try:
            written = os.pwrite(self._fd, data, address)
        except (OSError, OverflowError) as error:
            raise _fault(address) from error
        if written < len(data):
            raise _fault(address)

    def copy(self, address: int, data: "ctypes.Array[ctypes.c_char]", length: int) -> None:
        """The same for the first `length` bytes of a ctypes array: the fast way for many.

        Raises ProcessLookupError when the process ends: its memory is gone before all its threads.
        """
        begin = ctypes.addressof(data)
        done = 0
        while done < length:
            try:
                copied = syscalls.write_process(
                    self.pid, address + done, begin + done, length - done
                )
            except ProcessLookupError:
                raise
            except OSError as error:
                raise _fault(address + done) from error
            done += copied

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _fault(address: int) -> OSError:
    return OSError(errno.EFAULT, f"{os.strerror(errno.EFAULT)}: {address:#x}")


def process_of(thread: int) -> int:
    """The process that a thread belongs to (proc(5), "Tgid" in `status`)."""
    with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return thread
