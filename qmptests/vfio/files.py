"""Which of a program's descriptors are ours, whatever their numbers.

A program may close a descriptor, duplicate it, hand it to another process, and open a file of its
own on a number that was ours. So a number is only a hint: kcmp(2) tells whether it stands for the
very file that we gave.
"""

import errno
import os
from typing import NamedTuple, Protocol

from qmptests.vfio import descriptors, syscalls
from qmptests.vfio.listener import Listener
from qmptests.vfio.sources import Identity, identity_of

#: Files that are ours no longer, but that the program may have open yet.
_MOST_OLD = 1024
_MOST_HINTS = 1024


class File:
    """A file of ours that a program has, or had.

    `role`: "iommufd", "device", "saving", "resuming" (migration data), or "spare": what keeps a
    number for migration data. `device`: the number of its device, -1 for none. `fd`: our own
    descriptor, -1 for an old file.
    """

    __slots__ = ("device", "fd", "role")

    def __init__(self, role: str, fd: int, device: int = -1) -> None:
        self.role = role
        self.fd = fd
        self.device = device

    @property
    def is_data(self) -> bool:
        """Whether it is for migration data."""
        return self.role in ("saving", "resuming")


class Duplicate(NamedTuple):
    """A data descriptor is to be had twice, on a number that is `least` or above."""

    number: int
    least: int
    cloexec: bool


class Caller(Protocol):
    """Who makes a call, or is given a descriptor."""

    thread: int

    def descriptor(self, number: int) -> int: ...


class Files:
    """All files that one program has of us. `spare` is on all `numbers` from the start."""

    def __init__(self, iommufd: int, devices: list[int], spare: int, numbers: range) -> None:
        self.spare = spare
        self._numbers = numbers
        self._ours = [File("iommufd", iommufd), File("spare", spare)]
        self._ours += [File("device", fd, number) for number, fd in enumerate(devices)]
        #: By number, what was found there last.
        self._hints: dict[int, File] = {}
        self._old: dict[Identity, File] = {}
        self._next = 0

    def find(self, thread: int, number: int) -> File | None:
        """What a descriptor of that thread's stands for; None for what isn't ours, or not open."""
        hint = self._hints.get(number)
        if hint is not None and syscalls.same_file(hint.fd, thread, number) == 0:
            return hint
        for file in self._ours:
            differs = syscalls.same_file(file.fd, thread, number)
            if differs < 0:
                return None
            if differs == 0:
                self._remember(number, file)
                return file
        try:
            found = os.stat(f"/proc/{thread}/fd/{number}")  # noqa: PTH116 - no pathlib here
        except OSError:
            return None
        return self._old.get((found.st_dev, found.st_ino))

    def _remember(self, number: int, file: File) -> None:
        if len(self._hints) >= _MOST_HINTS:
            self._hints.clear()
        self._hints[number] = file

    def open_saving(self, device: int) -> File:
        """A file that can't be read or written by anybody whom we don't hear of: EBADF."""
        return self._add(File("saving", descriptors.nothing("saving"), device))

    def open_resuming(self, device: int, landing: int) -> File:
        """The same for a file that is there, to be written to."""
        own = os.open(f"/proc/self/fd/{landing}", os.O_WRONLY | os.O_CLOEXEC)
        return self._add(File("resuming", own, device))

    def _add(self, file: File) -> File:
        self._ours.append(file)
        return file

    def retire(self, file: File) -> None:
        """It is old: known as long as the program has it, but open here no longer."""
        self._ours.remove(file)
        self._hints = {number: hint for number, hint in self._hints.items() if hint is not file}
        while len(self._old) >= _MOST_OLD:
            del self._old[next(iter(self._old))]
        self._old[identity_of(file.fd)] = file
        os.close(file.fd)
        file.fd = -1

    def give(self, listener: Listener, identity: int, thread: int, file: File) -> int:
        """Open one of ours in the calling process; the number there. OSError (EMFILE)."""
        return self._give(listener, identity, thread, file.fd)

    def duplicate(
        self, listener: Listener, identity: int, caller: Caller, wanted: Duplicate
    ) -> int:
        """What dup(2) and F_DUPFD do: on a number of which we hear. OSError (EMFILE)."""
        own = caller.descriptor(wanted.number)
        try:
            return self._give(
                listener, identity, caller.thread, own, wanted.least, cloexec=wanted.cloexec
            )
        finally:
            os.close(own)

    def _give(
        self,
        listener: Listener,
        identity: int,
        thread: int,
        own: int,
        least: int = 0,
        *,
        cloexec: bool = True,
    ) -> int:
        """On a number that has our spare file, which nobody else can take meanwhile.

        Without one, where the program has closed them all, on one that is free at the moment.
        """
        free = -1
        count = len(self._numbers)
        for turn in range(self._next, self._next + count):
            number = self._numbers[turn % count]
            if number < least:
                continue
            differs = syscalls.same_file(self.spare, thread, number)
            if differs < 0 and free < 0:
                free = number
            if differs == 0:
                break
        else:
            if free < 0:
                raise OSError(errno.EMFILE, "all numbers for migration data are taken")
            number = free
        self._next = (self._numbers.index(number) + 1) % count
        listener.give(identity, own, number, cloexec=cloexec)
        return number
