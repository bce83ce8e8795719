"""A device's interrupts, as QEMU sets them up: which vectors have an event descriptor.

Answers are those of vfio-pci (drivers/vfio/vfio_main.c and pci/vfio_pci_intrs.c). INTx, MSI and
MSI-X exclude each other. VFIO_DEVICE_RESET leaves them all as they are.

INTx is masked each time it is raised: the line of a real device stays up until its driver has seen
to it, and QEMU unmasks it then (VFIO_IRQ_INFO_AUTOMASKED).
"""

import errno
from collections.abc import Callable
from typing import NamedTuple

from qmptests.vfio import abi
from qmptests.vfio.abi import Irq, IrqInfoFlag, IrqSetFlag
from qmptests.vfio.calls import Answer, EventFds
from qmptests.vfio.spec import Spec

# Plain numbers: "~" of an IntFlag leaves out the bits that have no name.
_DATA = int(IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD)
_ACTIONS = int(IrqSetFlag.ACTION_MASK | IrqSetFlag.ACTION_UNMASK | IrqSetFlag.ACTION_TRIGGER)
#: Bytes of data for each vector, by the kind of data; any other combination is none.
_WIDTHS = {
    int(IrqSetFlag.DATA_NONE): 0,
    int(IrqSetFlag.DATA_BOOL): 1,
    int(IrqSetFlag.DATA_EVENTFD): 4,
}
#: Of these a device can use one at a time.
_LINES = (Irq.INTX, Irq.MSI, Irq.MSIX)

_Numbers = tuple[int, ...]


class _Wanted(NamedTuple):
    """A SET_IRQS that is sound. `fds`: descriptors, if it brings any; `fires`: the vectors that
    are to be raised, or masked.
    """

    irq: Irq
    start: int
    count_: int
    fds: _Numbers | None
    fires: _Numbers


class Interrupts:
    """The five interrupts of a PCI device. A SET_IRQS either has its effect, or none at all."""

    def __init__(self, spec: Spec) -> None:
        self._counts = {
            Irq.INTX: int(spec.intx),
            Irq.MSI: 0,
            Irq.MSIX: spec.msix_vectors,
            Irq.ERR: 1,
            Irq.REQ: 1,
        }
        self._enabled: dict[Irq, set[int]] = {irq: set() for irq in Irq}
        #: Which of INTx, MSI and MSI-X is set up.
        self.line: Irq | None = None
        #: Whether INTx is masked.
        self.masked = False
        #: Whether it was raised while it was masked.
        self._waiting = False
        #: The bit of the command register that forbids INTx.
        self._forbidden = False
        #: Writes a vector's event descriptor.
        self.signal: Callable[[Irq, int], None] = lambda _irq, _vector: None

    def enabled(self, irq: int) -> set[int]:
        """The vectors that have an event descriptor."""
        return set(self._enabled[Irq(irq)])

    def info(self, index: int) -> tuple[int, int] | None:
        """Flags and number of vectors (GET_IRQ_INFO); None for an index that is none: EINVAL.

        As since Linux 6.5, MSI-X vectors can be set up one by one (no NORESIZE).
        """
        if index not in self._counts:
            return None
        flags = IrqInfoFlag.EVENTFD
        if index == Irq.INTX:
            flags |= IrqInfoFlag.MASKABLE | IrqInfoFlag.AUTOMASKED
        elif index != Irq.MSIX:
            flags |= IrqInfoFlag.NORESIZE
        return int(flags), self._counts[Irq(index)]

    def data_size(self, irq_set: abi.IrqSet) -> int:
        """Bytes of data that follow the structure. Raises OSError (EINVAL) if it is unsound."""
        width = _WIDTHS.get(irq_set.flags & _DATA)
        count = self._counts.get(irq_set.index_, 0)  # type: ignore[call-overload]
        end = irq_set.start + irq_set.count_
        if (
            width is None
            or irq_set.flags & ~(_DATA | _ACTIONS)
            or irq_set.start >= count
            or end > count
            or irq_set.argsz < abi.IRQ_SET.size + irq_set.count_ * width
        ):
            raise OSError(errno.EINVAL, "unsound")
        return int(irq_set.count_ * width)

    def set(self, irq_set: abi.IrqSet, data: bytes) -> Answer:
        """SET_IRQS; `data` is what follows the structure, `data_size` bytes of it or more.

        A descriptor of -1 takes a vector's away; no vectors and no data, triggered, take all away.
        Without descriptors a trigger raises the vectors itself: the answer's detail has `fires`.
        """
        try:
            size = self.data_size(irq_set)
            if len(data) < size:
                return Answer(errno=errno.EFAULT)
            return self._apply(irq_set.flags & _ACTIONS, _parse(irq_set, data[:size]))
        except OSError as error:
            return Answer(errno=error.errno or errno.EIO)

    # --- what the device does -------------------------------------------------------------------

    def interrupt(self, vector: int) -> None:
        """Raise a vector of MSI-X, MSI or INTx, whichever is set up.

        One of INTx that is masked comes when it is unmasked, once. Raises ValueError for a vector
        that QEMU has not set up.
        """
        if self.line is None:
            raise ValueError("QEMU has set no interrupt up")
        enabled = self._enabled[self.line]
        if vector not in enabled:
            have = ", ".join(map(str, sorted(enabled))) or "none"
            raise ValueError(f"QEMU has not set up {self.line.name} {vector}: it has {have}")
        if self.line is not Irq.INTX:
            self.signal(self.line, vector)
        elif self.masked:
            self._waiting = True
        else:
            self.masked = True
            self.signal(Irq.INTX, 0)

    def notify(self, irq: Irq) -> None:
        """Raise ERR or REQ. Raises ValueError if QEMU has not set it up."""
        if not self._enabled[irq]:
            raise ValueError(f"QEMU has not set up {irq.name}")
        self.signal(irq, 0)

    def unmask(self) -> None:
        """INTx may come again; one that waited does."""
        if self._forbidden:
            return
        self.masked = False
        if self._waiting:
            self._waiting = False
            self.interrupt(0)

    def forbid_intx(self, forbidden: bool) -> None:
        """What the command register says of INTx now: that masks and unmasks it."""
        if forbidden == self._forbidden:
            return
        self._forbidden = forbidden
        if forbidden:
            self.masked = True
        else:
            self.unmask()

    def reset(self) -> None:
        """The device has no reason to interrupt any more."""
        self._waiting = False

    # --- actions --------------------------------------------------------------------------------

    def _apply(self, action: int, wanted: _Wanted) -> Answer:
        if action == IrqSetFlag.ACTION_TRIGGER:
            if wanted.irq in _LINES:
                return self._trigger(wanted)
            return self._trigger_single(wanted)
        if wanted.irq is Irq.INTX and action == IrqSetFlag.ACTION_MASK:
            return self._mask(wanted)
        if wanted.irq is Irq.INTX and action == IrqSetFlag.ACTION_UNMASK:
            return self._unmask(wanted)
        return Answer(errno=errno.ENOTTY)

    def _trigger(self, wanted: _Wanted) -> Answer:
        """INTx, MSI, MSI-X: the first descriptors set it up."""
        if self.line is wanted.irq and not wanted.count_ and wanted.fds is None:
            return self._disable(wanted.irq)
        if self.line not in (None, wanted.irq) or not wanted.count_:
            return Answer(errno=errno.EINVAL)
        if wanted.fds is not None:
            if wanted.irq is Irq.INTX and self.line is None:
                self.masked = self._forbidden
            self.line = wanted.irq
            return self._give(wanted)
        if self.line is None:
            return Answer(errno=errno.EINVAL)
        return self._fire(wanted)

    def _trigger_single(self, wanted: _Wanted) -> Answer:
        """Errors, and requests to let go of the device."""
        if wanted.fds is not None and wanted.count_:
            return self._give(wanted)
        if wanted.fds is not None:
            return Answer(errno=errno.EINVAL)
        if not wanted.count_:
            return self._disable(wanted.irq)
        return self._fire(wanted)

    def _give(self, wanted: _Wanted) -> Answer:
        assert wanted.fds is not None
        enabled = self._enabled[wanted.irq]
        for vector, number in enumerate(wanted.fds, wanted.start):
            (enabled.add if number >= 0 else enabled.discard)(vector)
        return Answer(event_fds=EventFds(wanted.irq, wanted.start, wanted.fds))

    def _disable(self, irq: Irq) -> Answer:
        self._enabled[irq].clear()
        if self.line is irq:
            self.line = None
            self.masked = self._waiting = False
        return Answer(event_fds=EventFds(irq, 0, ()))

    def _fire(self, wanted: _Wanted) -> Answer:
        """What has no descriptor is not heard."""
        heard = [vector for vector in wanted.fires if vector in self._enabled[wanted.irq]]
        for vector in heard:
            self.signal(wanted.irq, vector)
        return Answer(detail=(("fires", ",".join(map(str, heard))),) if heard else ())

    def _mask(self, wanted: _Wanted) -> Answer:
        if self.line is not Irq.INTX or wanted.count_ != 1:
            return Answer(errno=errno.EINVAL)
        if wanted.fds is not None:
            return Answer(errno=errno.ENOTTY)
        self.masked = self.masked or bool(wanted.fires)
        return Answer()

    def _unmask(self, wanted: _Wanted) -> Answer:
        """With a descriptor: QEMU, or KVM for it, unmasks by writing to that."""
        if self.line is not Irq.INTX or wanted.count_ != 1:
            return Answer(errno=errno.EINVAL)
        if wanted.fds is not None:
            return Answer(event_fds=EventFds(Irq.INTX, 0, wanted.fds, unmask=True))
        if wanted.fires and self.masked:
            self.unmask()
        return Answer()


def _parse(irq_set: abi.IrqSet, data: bytes) -> _Wanted:
    """`data` is just as long as it should be."""
    kind = irq_set.flags & _DATA
    fds: _Numbers | None = None
    fires: _Numbers = tuple(range(irq_set.start, irq_set.start + irq_set.count_))
    if kind == IrqSetFlag.DATA_BOOL:
        fires = tuple(vector for vector, flag in zip(fires, data, strict=True) if flag)
    elif kind == IrqSetFlag.DATA_EVENTFD:
        fds = tuple(memoryview(data).cast("i"))
    return _Wanted(Irq(irq_set.index_), irq_set.start, irq_set.count_, fds, fires)
