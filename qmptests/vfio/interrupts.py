"""A device's interrupts, as QEMU sets them up: which vectors have an event descriptor.

Answers are those of vfio-pci (vfio_set_irqs_validate_and_prepare() in drivers/vfio/vfio_main.c and
vfio_pci_set_irqs_ioctl() in pci/vfio_pci_intrs.c). INTx, MSI and MSI-X exclude each other.
VFIO_DEVICE_RESET leaves them all as they are.

INTx is masked each time it is raised: the line of a real device stays up until its driver has seen
to it, and QEMU unmasks it then (VFIO_IRQ_INFO_AUTOMASKED).
"""

import errno
from collections.abc import Callable
from typing import NamedTuple, Protocol

from qmptests.vfio import abi
from qmptests.vfio.abi import Irq, IrqInfoFlag, IrqSetFlag
from qmptests.vfio.calls import Answer
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
#: The number of a descriptor that is none.
_NONE = -1

_Numbers = tuple[int, ...]
#: A duplicate of the caller's descriptor of that number; raises OSError (EBADF).
Descriptor = Callable[[int], int]


class Events(Protocol):
    """What is done with event descriptors. All are duplicates, which are ours."""

    def accept(self, descriptor: int) -> int:
        """The same. Raises OSError (EINVAL), and closes it, if it is no event descriptor."""

    def signal(self, descriptor: int) -> None:
        """Write it."""

    def watch(self, descriptor: int) -> None:
        """From now on `Interrupts.unmask` is called when it is written."""

    def drop(self, descriptor: int) -> None:
        """Close it."""


class _Wanted(NamedTuple):
    """A SET_IRQS that is sound. `fds`: the caller's descriptors, if it brings any; `fires`: the
    vectors that are to be raised, or masked. Without data (`bare`) and vectors all are taken away.
    """

    irq: Irq
    start: int
    count_: int
    fds: _Numbers | None
    fires: _Numbers
    bare: bool


class Interrupts:
    """The five interrupts of a PCI device."""

    def __init__(self, spec: Spec) -> None:
        self._counts = {
            Irq.INTX: int(spec.intx),
            Irq.MSI: 0,
            Irq.MSIX: spec.msix_vectors,
            Irq.ERR: 1,
            Irq.REQ: 1,
        }
        self.events: Events
        #: The event descriptor of each vector that has one.
        self._triggers: dict[Irq, dict[int, int]] = {irq: {} for irq in Irq}
        #: The one by which INTx is unmasked (KVM writes it in QEMU's place).
        self._unmasks = _NONE
        #: Which of INTx, MSI and MSI-X is set up.
        self.line: Irq | None = None
        #: Whether INTx is masked.
        self.masked = False
        #: Whether it was raised while it was masked.
        self._waiting = False
        #: The bit of the command register that forbids INTx.
        self._forbidden = False

    def enabled(self, irq: int) -> set[int]:
        """The vectors that have an event descriptor."""
        return set(self._triggers[Irq(irq)])

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

    def set(self, irq_set: abi.IrqSet, data: bytes, descriptor: Descriptor) -> Answer:
        """SET_IRQS; `data` is what follows the structure, `data_size` bytes of it or more.

        A descriptor of -1 takes a vector's away; no vectors and no data, triggered, take all away.
        Without descriptors a trigger raises the vectors itself: the answer's detail has `fires`.
        """
        try:
            size = self.data_size(irq_set)
            if len(data) < size:
                return Answer(errno=errno.EFAULT)
            wanted = _parse(irq_set, data[:size])
            return self._apply(irq_set.flags & _ACTIONS, wanted, descriptor)
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
        triggers = self._triggers[self.line]
        if vector not in triggers:
            have = ", ".join(map(str, sorted(triggers))) or "none"
            raise ValueError(f"QEMU has not set up {self.line.name} {vector}: it has {have}")
        if self.line is not Irq.INTX:
            self._signal(self.line, vector)
        elif self.masked:
            self._waiting = True
        else:
            self._raise_intx()

    def _raise_intx(self) -> None:
        self.masked = True
        self._signal(Irq.INTX, 0)

    def _signal(self, irq: Irq, vector: int) -> bool:
        """Write a vector's event descriptor; whether it has one."""
        descriptor = self._triggers[irq].get(vector, _NONE)
        if descriptor != _NONE:
            self.events.signal(descriptor)
        return descriptor != _NONE

    def notify(self, irq: Irq) -> None:
        """Raise ERR or REQ. Raises ValueError if QEMU has not set it up."""
        if not self._signal(irq, 0):
            raise ValueError(f"QEMU has not set up {irq.name}")

    def unmask(self) -> None:
        """INTx may come again; one that waited does."""
        if self._forbidden:
            return
        self.masked = False
        if self._waiting:
            self._waiting = False
            self._raise_intx()

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

    def _apply(self, action: int, wanted: _Wanted, descriptor: Descriptor) -> Answer:
        if action == IrqSetFlag.ACTION_TRIGGER:
            if wanted.irq in _LINES:
                return self._trigger(wanted, descriptor)
            return self._trigger_single(wanted, descriptor)
        if wanted.irq is Irq.INTX and action == IrqSetFlag.ACTION_MASK:
            return self._mask(wanted)
        if wanted.irq is Irq.INTX and action == IrqSetFlag.ACTION_UNMASK:
            return self._unmask(wanted, descriptor)
        return Answer(errno=errno.ENOTTY)

    def _trigger(self, wanted: _Wanted, descriptor: Descriptor) -> Answer:
        """INTx, MSI, MSI-X: the first descriptors set it up."""
        irq = wanted.irq
        if self.line is irq and not wanted.count_ and wanted.bare:
            return self._disable(irq)
        if self.line not in (None, irq) or (irq is Irq.INTX and not wanted.count_):
            return Answer(errno=errno.EINVAL)
        if wanted.fds is not None:
            give = self._give_intx if irq is Irq.INTX else self._give_msix
            return give(wanted, wanted.fds, descriptor)
        if self.line is None:
            return Answer(errno=errno.EINVAL)
        return self._fire(wanted)

    def _give_intx(self, wanted: _Wanted, fds: _Numbers, descriptor: Descriptor) -> Answer:
        """A bad descriptor has no effect."""
        self._replace(wanted.irq, 0, self._accepted(fds[0], descriptor))
        if self.line is None:
            self.line = Irq.INTX
            self.masked = self._forbidden
        return Answer()

    def _give_msix(self, wanted: _Wanted, fds: _Numbers, descriptor: Descriptor) -> Answer:
        """One vector after the other. A bad descriptor takes away those before it, and its own
        vector's (vfio_msi_set_block()); when it is the first time, nothing has been set up.
        """
        first = self.line is None
        if first and not wanted.start + wanted.count_:
            return Answer(errno=errno.ERANGE)
        self.line = wanted.irq
        for vector, number in enumerate(fds, wanted.start):
            try:
                trigger = self._accepted(number, descriptor)
            except OSError:
                for given in range(wanted.start, vector + 1):
                    self._replace(wanted.irq, given, _NONE)
                if first:
                    self._disable(wanted.irq)
                raise
            self._replace(wanted.irq, vector, trigger)
        return Answer()

    def _trigger_single(self, wanted: _Wanted, descriptor: Descriptor) -> Answer:
        """Errors, and requests to let go of the device."""
        if wanted.bare:
            if not self._triggers[wanted.irq]:
                return Answer(errno=errno.EINVAL)
            return self._fire(wanted) if wanted.count_ else self._disable(wanted.irq)
        if not wanted.count_:
            return Answer(errno=errno.EINVAL)
        if wanted.fds is None:
            return self._fire(wanted)
        if wanted.fds[0] < _NONE:
            return Answer(errno=errno.EINVAL)
        self._replace(wanted.irq, 0, self._accepted(wanted.fds[0], descriptor))
        return Answer()

    def _accepted(self, number: int, descriptor: Descriptor) -> int:
        """The caller's event descriptor, as ours; _NONE for a negative number."""
        return self.events.accept(descriptor(number)) if number >= 0 else _NONE

    def _replace(self, irq: Irq, vector: int, trigger: int) -> None:
        before = self._triggers[irq].pop(vector, _NONE)
        if before != _NONE:
            self.events.drop(before)
        if trigger != _NONE:
            self._triggers[irq][vector] = trigger

    def _disable(self, irq: Irq) -> Answer:
        for vector in self.enabled(irq):
            self._replace(irq, vector, _NONE)
        if self.line is irq:
            self.line = None
            self.masked = self._waiting = False
        if irq is Irq.INTX:
            self._drop_unmask()
        return Answer()

    def _fire(self, wanted: _Wanted) -> Answer:
        """What has no descriptor is not heard, nor is INTx while the command register forbids it
        (vfio_send_intx_eventfd()).
        """
        if wanted.irq is Irq.INTX and self._forbidden:
            return Answer()
        heard = [vector for vector in wanted.fires if self._signal(wanted.irq, vector)]
        return Answer(detail=(("fires", ",".join(map(str, heard))),) if heard else ())

    def _mask(self, wanted: _Wanted) -> Answer:
        if self.line is not Irq.INTX or wanted.count_ != 1:
            return Answer(errno=errno.EINVAL)
        if wanted.fds is not None:
            return Answer(errno=errno.ENOTTY)
        self.masked = self.masked or bool(wanted.fires)
        return Answer()

    def _unmask(self, wanted: _Wanted, descriptor: Descriptor) -> Answer:
        """With a descriptor: QEMU, or KVM for it, unmasks by writing to that."""
        if self.line is not Irq.INTX or wanted.count_ != 1:
            return Answer(errno=errno.EINVAL)
        if wanted.fds is not None:
            return self._unmask_by(self._accepted(wanted.fds[0], descriptor))
        if wanted.fires and self.masked:
            self.unmask()
        return Answer()

    def _unmask_by(self, descriptor: int) -> Answer:
        """There is one such descriptor at a time (vfio_virqfd_enable())."""
        if descriptor == _NONE:
            self._drop_unmask()
        elif self._unmasks != _NONE:
            self.events.drop(descriptor)
            return Answer(errno=errno.EBUSY)
        else:
            self._unmasks = descriptor
            self.events.watch(descriptor)
        return Answer()

    def _drop_unmask(self) -> None:
        if self._unmasks != _NONE:
            self.events.drop(self._unmasks)
            self._unmasks = _NONE


def _parse(irq_set: abi.IrqSet, data: bytes) -> _Wanted:
    """`data` is just as long as it should be."""
    kind = irq_set.flags & _DATA
    fds: _Numbers | None = None
    fires: _Numbers = tuple(range(irq_set.start, irq_set.start + irq_set.count_))
    if kind == IrqSetFlag.DATA_BOOL:
        fires = tuple(vector for vector, flag in zip(fires, data, strict=True) if flag)
    elif kind == IrqSetFlag.DATA_EVENTFD:
        fds = tuple(memoryview(data).cast("i"))
    bare = kind == IrqSetFlag.DATA_NONE
    return _Wanted(Irq(irq_set.index_), irq_set.start, irq_set.count_, fds, fires, bare)
