"""The process that a call comes from, while the call waits: its memory and its descriptors."""

import errno
import os

from qmptests.vfio import syscalls
from qmptests.vfio.files import Files
from qmptests.vfio.listener import Listener
from qmptests.vfio.memory import Mappings, ProcessMemory, process_of
from qmptests.vfio.sources import FileSource, ProcessSource, Sources, open_file


class CallingProcess(ProcessMemory):
    """`calls.Caller` for the call `identity`. What fails because nobody waits any more is Gone."""

    def __init__(
        self,
        listener: Listener,
        identity: int,
        thread: int,
        mappings: Mappings,
        sources: Sources,
        files: Files,
    ) -> None:
        self._files = files
        self._listener = listener
        self._identity = identity
        self._sources = sources
        try:
            super().__init__(thread, mappings)
        except (FileNotFoundError, ProcessLookupError):
            listener.check(identity)
            raise
        try:
            listener.check(identity)  # what was opened is the caller's, and stays so
        except BaseException:
            self.close()
            raise

    def fault(self, address: int) -> OSError:
        """As `ProcessMemory.fault`, for a caller that still waits."""
        self._listener.check(self._identity)
        return super().fault(address)

    def descriptor(self, number: int) -> int:
        """A duplicate of the caller's descriptor, which is ours. Raises OSError (EBADF)."""
        pidfd = self.pidfd()
        try:
            if syscalls.same_file(self._files.spare, self.thread, number) == 0:
                raise OSError(errno.EBADF, f"{number} is not open")
            return syscalls.take_descriptor(pidfd, number)
        finally:
            os.close(pidfd)

    def source(self) -> ProcessSource:
        """Its memory, for longer than the call."""
        try:
            return self._sources.memory(self, process_of(self.thread))
        finally:
            self._listener.check(self._identity)

    def file(self, number: int, end: int) -> FileSource:
        """The file that is its descriptor of that number, as `calls.Caller` has it."""
        return self._sources.file(self.descriptor(number), end)

    def is_iommufd(self, number: int) -> bool:
        """Whether its descriptor of that number is the iommufd. Raises OSError (EBADF)."""
        file = self._files.find(self.thread, number)
        if file is not None and file.role == "iommufd":
            return True
        os.close(open_file(self.descriptor(number)))
        return False

    def pidfd(self) -> int:
        """A descriptor of the caller's process, whatever becomes of its number."""
        pidfd = os.pidfd_open(process_of(self.thread))
        try:
            self._listener.check(self._identity)
        except BaseException:
            os.close(pidfd)
            raise
        return pidfd
