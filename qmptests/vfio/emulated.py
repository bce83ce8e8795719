"""A device together with what it has in this world: descriptors, content, its script."""

import errno
import os
import select
from collections.abc import Iterable, Sequence
from typing import Any

from qmptests.vfio import descriptors, syscalls
from qmptests.vfio.abi import State
from qmptests.vfio.caller import CallingProcess
from qmptests.vfio.calls import Call, Kind, Memory, Span
from qmptests.vfio.content import Checker, Content
from qmptests.vfio.device import Device
from qmptests.vfio.dma import Dma
from qmptests.vfio.eventfds import EventDescriptors
from qmptests.vfio.files import File, Files
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.landing import FALLOC_FL_KEEP_SIZE, Landing
from qmptests.vfio.migration import PRECOPY
from qmptests.vfio.regions import REGION_SHIFT, Access
from qmptests.vfio.script import Script
from qmptests.vfio.sources import identity_of
from qmptests.vfio.spec import Spec
from qmptests.vfio.words import state_word

CONFIG_OFFSET = 7 << REGION_SHIFT
#: Bytes of content that are made, or checked, at a time.
BLOCK = 1 << 20
#: Pieces of a device's data that the outcome has at most, but for some put together.
MOST_CHUNKS = 100
FALLOC_FL_PUNCH_HOLE = 2
#: Bytes of a BAR that a read gets at most that was cut at the BAR's end.
READ_AT_ONCE = 64 << 20


class Emulated:
    """One device. Its configuration space and BARs are a memfd that QEMU reads and maps by itself.

    On the saving side the data descriptor is a placeholder whose reads are notified; on the
    resuming side it is a memfd that QEMU writes to, unnoticed, and that is checked afterwards.
    `memory`: that memfd, as the program has it. `receives`: whether data will come to it.
    """

    def __init__(
        self,
        number: int,
        spec: Spec,
        iommufd: Iommufd,
        poll: "select.poll",
        memory: int,
        *,
        receives: bool,
    ) -> None:
        self.number = number
        self.device = Device(spec, iommufd)
        self.name = spec.name
        self.spec = spec
        self.script = Script(spec.rules)
        self.content = Content(spec.seed, spec.name)
        self.interrupts = EventDescriptors(poll)
        self.dma = Dma(self.device, number)
        self.memory = descriptors.reopened(memory)  # the program may set O_APPEND for its own
        os.pwrite(self.memory, self.device.config.image, CONFIG_OFFSET)
        self._hide_table()
        #: Of the data descriptor that QEMU was given last, as long as its session goes on.
        self.session: File | None = None
        self._sealed = True
        self._view = memoryview(bytearray(BLOCK))
        #: What lies in the buffer.
        self._made: Span | None = None
        self._next: Span | None = None
        #: What is to be done to the next bytes that a read delivers: a read may find none.
        self.damage = ""
        #: What was read from the last data descriptor: [kind, generation, bytes], in order.
        self.sent: list[list[int]] = []
        #: Where data is to arrive next; and where it arrives, or has arrived.
        self._prepared = self._landing() if receives else None
        self.arriving: Landing | None = None
        self._checker: Checker | None = None
        #: Checks what is written, if that is wanted, and not only what has arrived.
        self._incoming = Checker(self.content)
        self._checked = 0
        #: What the check of the last arrival found; None before there was one.
        self.verdict: dict[str, Any] | None = None
        self.device.migration.load = self.load_problem
        self.device.migration.arrives = self.write_problem
        self.device.interrupts.events = self.interrupts
        self.device.clear_bars = self._clear_bars

    # --- what QEMU gets -------------------------------------------------------------------------

    def open_data(self, files: Files, kind: str) -> File:
        """The file of a new session, which is the only one from now on."""
        if self.session is not None:
            files.retire(self.session)
        if kind == "saving":
            self.sent = []
            self.session = files.open_saving(self.number)
        else:
            landing, self._prepared = self._prepared or self._landing(), None
            self._forget_arrival()
            self.arriving = landing
            self._incoming = Checker(self.content)
            self._sealed = False
            self.session = files.open_resuming(self.number, landing.fd)
        return self.session

    def follow_state(self) -> None:
        """Nothing can be loaded any more by a device that is not being resumed."""
        if not self._sealed and self.device.state is not State.RESUMING:
            self._sealed = True
            if self.arriving is not None:
                self.arriving.seal()

    def old_session_errno(self, call: Call) -> int:
        """What a call on a data descriptor of an earlier session fails with (mlx5's main.c)."""
        precopy = self.device.state in PRECOPY
        return errno.EINVAL if call.name == "precopy-info" and not precopy else errno.ENODEV

    def dma_buf(self, length: int, ranges: int) -> int:
        """A descriptor that stands for `length` bytes of a BAR in the IOMMU's mappings.

        It can be mapped while the BAR answers, and if they are one range
        (vfio_pci_dma_buf_attach, vfio_pci_dma_buf_iommufd_map).

        A dma-buf has no content of its own, and nothing here reads a BAR by DMA.
        """
        descriptor = os.memfd_create(f"dma-buf-{self.name}", os.MFD_CLOEXEC)
        os.truncate(descriptor, length)

        def refusal() -> int:
            if not self.device.config.memory_enabled:
                return errno.ENODEV
            return errno.EOPNOTSUPP if ranges > 1 else 0

        self.device.iommufd.add_dma_buf(identity_of(descriptor), refusal)
        return descriptor

    def _landing(self) -> Landing:
        """For all that its like has to send, as far as the profile says."""
        spec = self.spec
        late = spec.late_bytes * spec.late_times
        return Landing(self.name, spec.initial_bytes + spec.dirty_bytes + late + spec.stop_copy)

    def _forget_arrival(self) -> None:
        if self.arriving is not None:
            self.arriving.seal()  # the program may have it open yet
            self.arriving.close()
        self.arriving, self._checker, self._checked = None, None, 0
        self.verdict = None

    def write_region(self, call: Call, memory: CallingProcess) -> int:
        """What QEMU writes to configuration space or to a BAR; how many bytes. Raises OSError."""
        data: bytes = call.argument
        if call.name == "config-write":
            os.pwrite(self.memory, self.device.config_write(call), CONFIG_OFFSET + call.address)
            if self.device.config.is_reset(call.address, data):
                self.was_reset()
            return len(data)
        done = 0
        while True:
            self._write_bar(call.flags, call.address + done, data)
            done += len(data)
            if done >= call.size:
                return done
            data = memory.read(call.payload + done, min(BLOCK, call.size - done))

    def _write_bar(self, region: int, at: int, data: bytes) -> None:
        for begin, end in self.device.regions.reached(region, at, len(data)):
            part = data[begin - at : end - at]
            os.pwrite(self.memory, part, (region << REGION_SHIFT) + begin)

    def read_bar(self, access: Access, memory: CallingProcess, address: int) -> int:
        """Give a read what there is of a BAR, at most READ_AT_ONCE bytes; how many. Raises OSError
        (EFAULT).
        """
        offset = (access.region << REGION_SHIFT) + access.at
        length = min(access.length, READ_AT_ONCE)
        for done in range(0, length, BLOCK):
            data = os.pread(self.memory, min(BLOCK, length - done), offset + done)
            memory.write(address + done, data)
        return length

    def _clear_bars(self) -> None:
        """Whoever has them mapped sees zeros."""
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        for bar in self.spec.bars:
            syscalls.fallocate(self.memory, mode, bar.index_ << REGION_SHIFT, bar.size)
        self._hide_table()

    def _hide_table(self) -> None:
        """Who reads the MSI-X table reads ones: it is Linux's own."""
        bar, begin, end = self.device.regions.table
        if end:
            ones = b"\xff" * (end - begin)
            os.pwrite(self.memory, ones, (bar << REGION_SHIFT) + begin)

    # --- content --------------------------------------------------------------------------------

    def deliver(self, span: Span, memory: CallingProcess, address: int) -> None:
        """Copy the bytes of `span`, at most BLOCK, to where a read wants them."""
        if self._made != span:
            self.content.fill(self._view, [span])
        self._made = None
        if self.damage:
            self.content.damage(self._view, span, self.damage)
            self.damage = ""
        memory.write(address, self._view[: span.length])
        if self.sent and self.sent[-1][:2] == [span.kind, span.generation]:
            self.sent[-1][2] += span.length
        else:
            self.sent.append([span.kind, span.generation, span.length])
        if span.kind is not Kind.END:  # the next is likely to be like this one
            self._next = span._replace(start=span.start + span.length)

    def _make_next(self) -> bool:
        """Make what is likely to be read next; whether there was something to do."""
        if self._next is None:
            return False
        self.content.fill(self._view, [self._next])
        self._made, self._next = self._next, None
        return True

    # --- arrival --------------------------------------------------------------------------------

    @property
    def _unready(self) -> Landing | None:
        """Memory that is to be had before QEMU writes to it."""
        landing = self._prepared
        if landing is None and self.device.state is State.RESUMING:
            landing = self.arriving
        return None if landing is None or landing.ready else landing

    @property
    def ready(self) -> bool:
        """Whether all that is expected can arrive at once."""
        return self._prepared is not None and self._prepared.ready

    def load_problem(self) -> str:
        """What is wrong with what arrived, at the cheap look that fits into downtime."""
        if self.arriving is None:
            return self.content.plausible(b"", 0)
        length = self.arriving.length
        last = os.pread(self.arriving.fd, 4096, max(0, length - 4096))
        return self.content.plausible(last, length)

    def write_problem(self, call: Call, memory: Memory) -> str:
        """What is wrong with what a write is about to bring, looked at byte by byte."""
        for done in range(0, call.size, BLOCK):
            data = memory.read(call.address + done, min(BLOCK, call.size - done))
            self._incoming.feed(data)
            if self._incoming.problem:
                break
        return self._incoming.problem

    def answered_state(self) -> None:
        """QEMU knows of the new state: once the device has been set going, check what arrived."""
        if self.device.state is State.RUNNING and self._begin_check():
            self.dma.begin_look()

    def _begin_check(self) -> bool:
        if self.arriving is None or self._checker is not None:
            return False
        self._checker = Checker(self.content)
        return True

    def was_reset(self) -> None:
        """What it was given and did not run with yet is lost, right or wrong."""
        if self.arriving is None or self._checker is not None:
            return
        length = self.arriving.length
        self._forget_arrival()
        words = "; ".join(
            ("reset before it ran, all that it was given is lost", *self.device.problems)
        )
        self.verdict = {"received_bytes": length, "problem": words, "chunks": []}

    @property
    def loading(self) -> bool:
        """Whether it has been given data and does not run yet: QEMU is in a hurry."""
        return self.arriving is not None and self.device.state is not State.RUNNING

    def check(self) -> bool:
        """One block; as `prepare`."""
        if self._checker is None or self.arriving is None:
            return False
        read = os.preadv(self.arriving.fd, [self._view], self._checked)
        self._made = self._next = None
        if read:
            self._checker.feed(self._view[:read])
            self._checked += read
        if not read or self._checker.problem:
            self._finish_check()
        return True

    def _finish_check(self) -> None:
        assert self._checker is not None
        assert self.arriving is not None
        found, length = self._checker.finish(), self.arriving.length
        self._forget_arrival()
        self.verdict = {
            "received_bytes": length,
            "problem": found.problem,
            "chunks": chunks(found.chunks),
        }

    @property
    def hurried(self) -> bool:
        """Whether there is work that must be done before QEMU comes for it."""
        return self._next is not None or self._unready is not None

    @property
    def checking(self) -> bool:
        """Whether there is something to check, which can wait."""
        return self._checker is not None or self.dma.looking

    def prepare(self) -> bool:
        """One piece of what QEMU will come for next; whether there was any."""
        unready = self._unready
        return self._make_next() or (unready is not None and unready.prepare())

    # --- the end --------------------------------------------------------------------------------

    def finish(self) -> bool:
        """One block of what it was given and is still to be checked; as `prepare`."""
        if self.device.state in (State.RUNNING, State.RUNNING_P2P):
            self._begin_check()
        return self.check()

    def report(self, counts: dict[str, int]) -> dict[str, Any]:
        """What became of it, for the outcome, once all was checked."""
        device = self.device
        return {
            "name": self.name,
            "profile": self.spec.profile,
            "seed": self.spec.seed,
            "state": state_word(device.state),
            "calls": counts,
            "sent": chunks(self.sent),
            "reinits": device.migration.reinits,
            "arrival": self.verdict,
            "dma_written": self.dma.written,
            "dma_found": self.dma.found,
            "fired": [str(fired.rule) for fired in self.script.fired],
            "unfired": [str(rule) for rule in self.script.unfired()]
            + [f"{self.damage}, of data that was never read"] * bool(self.damage),
        }


def chunks(found: Iterable[Sequence[int]]) -> list[dict[str, Any]]:
    """Pieces of a stream, for the outcome: as both sides have them, so that they can be compared.

    A device that has a REINIT again and again makes thousands, and the report is one packet: of
    many those in the middle are put together by their kind, with the last generation.
    """
    rows = [list(row) for row in found]
    if len(rows) > MOST_CHUNKS:
        half = MOST_CHUNKS // 2
        middle: dict[int, list[int]] = {}
        for kind, generation, size in rows[half:-half]:
            so_far = middle.pop(kind, (0, 0, 0))[2]
            middle[kind] = [kind, generation, so_far + size]
        rows[half:-half] = middle.values()
    return [
        {"kind": Kind(kind).name.lower().replace("_", "-"), "generation": generation, "bytes": size}
        for kind, generation, size in rows
    ]
