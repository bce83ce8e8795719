"""What a device writes to its guest's memory (DMA), and what of that arrived on the other side.

A written page has 4 KiB: a magic number, one that belongs to the seed and the device, the page's
address, the number of the burst that wrote it, and bytes that follow from these. Bursts count from
1. So the device on the destination can tell, of each page in its part of the window, which burst's
it is, and whether it is whole.

That a device needs the bus master bit for DMA is left out: no guest of ours has a driver to set it.
"""

import contextlib
import hashlib
from itertools import groupby
from typing import Any

from qmptests.vfio import descriptors
from qmptests.vfio.abi import State
from qmptests.vfio.device import Device
from qmptests.vfio.iova import Mapping, Source
from qmptests.vfio.spec import Spec
from qmptests.vfio.words import state_word

PAGE = 4096
#: In memory it reads "qmptDMA.".
MAGIC = int.from_bytes(b"qmptDMA.", "little")
#: In which states a device can reach memory: in the P2P ones it leaves other devices alone.
#: Source: linux/vfio.h at enum vfio_device_mig_state.
ABLE = frozenset({State.RUNNING, State.RUNNING_P2P, State.PRE_COPY, State.PRE_COPY_P2P})

_HEADER = 32
_WORDS = PAGE // 8
#: Bytes that are looked at in one go.
_PIECE = 1 << 20
#: Problems that are told in full.
_TOLD = 8


class Pages:
    """The pages of one device: its part of the window, and what it writes there."""

    def __init__(self, spec: Spec, number: int) -> None:
        start, size = spec.dma_window
        #: How many there are, and the address of the first.
        self.count = size // descriptors.MOST // PAGE
        self.start = start + number * self.count * PAGE
        self._name = f"{spec.seed}/{spec.name}"
        identity = hashlib.shake_128(f"{self._name}/dma".encode()).digest(8)
        self.identity = int.from_bytes(identity, "little")

    def address(self, page: int) -> int:
        """Where the window's `page`th one is (iova)."""
        return self.start + page * PAGE

    def content(self, page: int, burst: int) -> bytes:
        """What is written there."""
        words = (MAGIC, self.identity, self.address(page), burst)
        header = b"".join(word.to_bytes(8, "little") for word in words)
        return header + hashlib.shake_128(header).digest(PAGE - _HEADER)

    def choose(self, count: int, burst: int) -> list[int]:
        """The pages of that burst, `count` different ones in the order in which they are written.

        The same on any machine.
        """
        made = hashlib.shake_128(f"{self._name}/{burst}".encode()).digest(8 * self.count)
        order = sorted(range(self.count), key=lambda page: made[8 * page : 8 * page + 8])
        return order[:count]

    def runs(self, bursts: dict[int, int]) -> str:
        """The burst of each page in order, 0 for none; "0*3 2": that three times, then burst 2."""
        each = (bursts.get(page, 0) for page in range(self.count))
        runs = ((burst, len(list(run))) for burst, run in groupby(each))
        return " ".join(f"{burst}*{pages}" if pages > 1 else f"{burst}" for burst, pages in runs)


class GuestMemory:
    """The guest's memory as one device reaches it: by way of what QEMU has mapped for it."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def pieces(self, iova: int, length: int) -> list[Mapping]:
        """Where those bytes lie. Raises OSError (EFAULT) if some are not mapped."""
        return self._device.iommufd.translate(self._device.devid, iova, length)

    def write(self, iova: int, data: bytes) -> None:
        """Raises OSError (EFAULT) where nothing is mapped, or only to read."""
        done = 0
        for piece in self.pieces(iova, len(data)):
            if not piece.writable:
                raise PermissionError(f"{piece.iova:#x} is mapped to read only")
            part = data[done : done + piece.length]
            done += piece.length
            _source(piece).write(piece.address, part)

    def read(self, piece: Mapping) -> bytes:
        """The bytes of one of `pieces`, even if it is mapped no longer. Raises OSError."""
        data = _source(piece).read(piece.address, piece.length)
        if len(data) < piece.length:
            raise OSError("the file that was mapped ends before")
        return data


def _source(piece: Mapping) -> Source:
    if piece.source is None:
        raise OSError("it maps nothing")
    return piece.source


class Dma:
    """One device's doings in memory."""

    def __init__(self, device: Device, number: int) -> None:
        self.memory = GuestMemory(device)
        self.pages = Pages(device.spec, number)
        self._device = device
        #: The burst that was the last; there has been none while it is 0.
        self._last = 0
        #: Of each page that was written, by its number, and of each whole one that was found.
        self._written: dict[int, int] = {}
        self._found: dict[int, int] = {}
        #: What is wrong with pages that were found, in words.
        self._problems: list[str] = []
        #: What is still to be looked at; None before there was anything to look for.
        self._left: list[Mapping] | None = None

    # --- writing --------------------------------------------------------------------------------

    def write(self, count: int, *, tell: bool = True) -> None:
        """Write that many random pages; without `tell` nobody hears which: a lie.

        Raises ValueError with words if the device can't.
        """
        state = self._device.state
        if state not in ABLE:
            raise ValueError(f"there is no DMA in the state {state_word(state)}")
        if not 0 < count <= self.pages.count:
            raise ValueError(f"its window for DMA has {self.pages.count} pages, not {count}")
        self.finish_look()
        self._last += 1
        for page in self.pages.choose(count, self._last):
            iova = self.pages.address(page)
            try:
                self.memory.write(iova, self.pages.content(page, self._last))
            except OSError as error:
                raise ValueError(f"DMA to {iova:#x} failed: {error}") from error
            self._written[page] = self._last
            if tell:
                self._device.wrote(iova, PAGE)

    # --- looking --------------------------------------------------------------------------------

    def begin_look(self) -> None:
        """The guest is about to run with the memory that arrived: look at what is in the window."""
        self._found, self._problems, self._left = {}, [], []
        end = self.pages.address(self.pages.count)
        with contextlib.suppress(OSError):  # the guest has no memory there, and so got none
            for piece in self.memory.pieces(self.pages.start, end - self.pages.start):
                last = piece.last
                for first in range(piece.iova, last + 1, _PIECE):
                    self._left.append(piece.within(first, min(first + _PIECE - 1, last)))

    @property
    def looking(self) -> bool:
        """Whether `look` has something to do."""
        return bool(self._left)

    def finish_look(self) -> None:
        """Look at the rest now: it is about to be overwritten, or to go."""
        while self.look():
            pass

    def look(self) -> bool:
        """At one piece of the window; whether there was something to do."""
        if not self._left:
            return False
        piece = self._left.pop(0)
        try:
            data = self.memory.read(piece)
        except OSError as error:
            self._problems.append(f"memory at {piece.iova:#x} can't be read: {error}")
            return True
        words = memoryview(data).cast("Q")
        magics, identities = words[0::_WORDS].tolist(), words[1::_WORDS].tolist()
        first = (piece.iova - self.pages.start) // PAGE
        for number, mine in enumerate(zip(magics, identities, strict=True)):
            if mine == (MAGIC, self.pages.identity):
                self._find(first + number, data[number * PAGE : (number + 1) * PAGE])
        return True

    def _find(self, page: int, data: bytes) -> None:
        """A page of ours."""
        place, burst = memoryview(data)[16:_HEADER].cast("Q").tolist()
        self._last = max(self._last, burst)
        expected = self.pages.content(page, burst)
        here = self.pages.address(page)
        if place != here:
            self._problems.append(f"page {here:#x} holds what was written to {place:#x}")
        elif data != expected:
            at = next(at for at in range(PAGE) if data[at] != expected[at])
            self._problems.append(
                f"page {here:#x} of burst {burst}: byte {at} is {data[at]:#04x} "
                f"instead of {expected[at]:#04x}"
            )
        else:
            self._found[page] = burst

    # --- the end --------------------------------------------------------------------------------

    @property
    def written(self) -> dict[str, Any] | None:
        """What this device wrote, for the outcome; None if it was nothing."""
        return self._record(self._written) if self._written else None

    @property
    def found(self) -> dict[str, Any] | None:
        """What it found of its like's; None if it has not looked, or not at all of it."""
        return None if self._left or self._left is None else self._record(self._found)

    def _record(self, bursts: dict[int, int]) -> dict[str, Any]:
        return {
            "start": self.pages.start,
            "pages": len(bursts),
            "bursts": self._last,
            "runs": self.pages.runs(bursts) if bursts else "",
            "problems": self._problems[:_TOLD],
        }
