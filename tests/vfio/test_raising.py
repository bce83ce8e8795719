"""A device raises its interrupts: what is masked waits, and descriptors are written."""

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi, eventfds
from qmptests.vfio.abi import Irq, IrqSetFlag
from qmptests.vfio.calls import Call
from qmptests.vfio.device import Device
from qmptests.vfio.eventfds import EventDescriptors
from qmptests.vfio.interrupts import Interrupts
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.pci import COMMAND, DEVICE_CONTROL
from qmptests.vfio.spec import Spec
from tests.vfio.caller import Events

INTX_DISABLE, FLR = 0x400, 0x8000


class Heard:
    """Interrupts, and those that came."""

    def __init__(self, interrupts: Interrupts | None = None) -> None:
        self.interrupts = interrupts or Interrupts(Spec(name="vf0", msix_vectors=4))
        self.interrupts.events = self.events = Events()

    def ask(self, irq: Irq, action: int, *numbers: int) -> None:
        """Set vectors up from 0 on; without numbers the action alone, on the first."""
        kind = IrqSetFlag.DATA_EVENTFD if numbers else IrqSetFlag.DATA_NONE
        data = struct.pack(f"<{len(numbers)}i", *numbers)
        size = abi.IRQ_SET.size + len(data)
        irq_set = abi.IrqSet(size, kind | action, irq, 0, len(numbers) or 1)
        assert not self.interrupts.set(irq_set, data, self.events.descriptor).errno

    def take(self) -> list[int]:
        """The descriptors of those that came since the last time."""
        came = self.events.came[:]
        self.events.came.clear()
        return came


TRIGGER, MASK, UNMASK = (
    IrqSetFlag.ACTION_TRIGGER,
    IrqSetFlag.ACTION_MASK,
    IrqSetFlag.ACTION_UNMASK,
)
INTX = [9]


@pytest.fixture
def intx() -> Heard:
    heard = Heard()
    heard.ask(Irq.INTX, TRIGGER, 9)
    return heard


def test_vectors_of_msix_come_each_time() -> None:
    heard = Heard()
    heard.ask(Irq.MSIX, TRIGGER, 9, -1, 11)
    for vector in (2, 0, 2):
        heard.interrupts.interrupt(vector)
    assert heard.take() == [11, 9, 11]
    with pytest.raises(ValueError, match="QEMU has not set up MSIX 1: it has 0, 2"):
        heard.interrupts.interrupt(1)


def test_nothing_comes_before_it_is_set_up() -> None:
    heard = Heard()
    with pytest.raises(ValueError, match="QEMU has set no interrupt up"):
        heard.interrupts.interrupt(0)
    for irq in (Irq.ERR, Irq.REQ):
        with pytest.raises(ValueError, match=f"QEMU has not set up {irq.name}"):
            heard.interrupts.notify(irq)
        heard.ask(irq, TRIGGER, 10 + irq)
        heard.interrupts.notify(irq)
    assert heard.take() == [13, 14]


def test_intx_is_masked_by_itself_and_what_waits_comes_once(intx: Heard) -> None:
    for _ in range(3):
        intx.interrupts.interrupt(0)
    assert intx.take() == INTX
    intx.ask(Irq.INTX, UNMASK)
    assert intx.take() == INTX
    intx.ask(Irq.INTX, UNMASK)
    assert intx.take() == []
    intx.interrupts.interrupt(0)
    assert intx.take() == INTX


def test_intx_waits_while_qemu_masks_it(intx: Heard) -> None:
    intx.ask(Irq.INTX, MASK)
    intx.interrupts.interrupt(0)
    assert intx.take() == []
    intx.ask(Irq.INTX, UNMASK)
    assert intx.take() == INTX


def test_intx_waits_while_the_command_register_forbids_it(intx: Heard) -> None:
    """Nor does QEMU's unmasking help; and it is so for one that is set up meanwhile."""
    intx.interrupts.forbid_intx(True)
    intx.ask(Irq.INTX, UNMASK)
    intx.interrupts.interrupt(0)
    assert intx.take() == []
    intx.interrupts.forbid_intx(False)
    assert intx.take() == INTX
    other = Heard()
    other.interrupts.forbid_intx(True)
    other.ask(Irq.INTX, TRIGGER, 9)
    other.interrupts.interrupt(0)
    assert other.take() == []


def test_what_waits_is_forgotten_by_a_reset_and_by_taking_it_away(intx: Heard) -> None:
    for forget in (intx.interrupts.reset, lambda: disable(intx)):
        intx.interrupts.interrupt(0)
        intx.interrupts.interrupt(0)
        forget()
        intx.take()
        if intx.interrupts.line is None:
            intx.ask(Irq.INTX, TRIGGER, 9)
        else:
            intx.ask(Irq.INTX, UNMASK)
        assert intx.take() == []


def disable(heard: Heard) -> None:
    irq_set = abi.IrqSet(abi.IRQ_SET.size, IrqSetFlag.DATA_NONE | TRIGGER, Irq.INTX, 0, 0)
    assert not heard.interrupts.set(irq_set, b"", heard.events.descriptor).errno


def test_qemu_can_raise_a_vector_itself() -> None:
    heard = Heard()
    heard.ask(Irq.MSIX, TRIGGER, 9)
    heard.ask(Irq.MSIX, TRIGGER)
    assert heard.take() == [9]


def test_qemu_does_not_raise_intx_itself_while_the_command_register_forbids_it(intx: Heard) -> None:
    intx.interrupts.forbid_intx(True)
    intx.ask(Irq.INTX, TRIGGER)
    assert intx.take() == []


def test_intx_without_a_descriptor_stays_raised_and_is_not_heard(intx: Heard) -> None:
    for _ in range(2):
        intx.interrupts.interrupt(0)
    intx.take()
    intx.ask(Irq.INTX, TRIGGER, -1)
    intx.ask(Irq.INTX, UNMASK)
    assert intx.take() == []
    assert intx.interrupts.masked


@given(st.lists(st.sampled_from(["interrupt", "mask", "unmask", "forbid", "allow"]), max_size=30))
def test_one_that_was_raised_comes_as_soon_as_nothing_masks_it(steps: list[str]) -> None:
    """And none comes that was not raised, or while it is masked."""
    heard = Heard()
    heard.ask(Irq.INTX, TRIGGER, 9)
    masked = forbidden = raised = False
    for step in steps:
        if step == "interrupt":
            raised = True
            heard.interrupts.interrupt(0)
        elif step in ("mask", "unmask"):
            masked = step == "mask" or (masked and forbidden)
            heard.ask(Irq.INTX, MASK if step == "mask" else UNMASK)
        elif forbidden != (step == "forbid"):
            forbidden = masked = step == "forbid"
            heard.interrupts.forbid_intx(forbidden)
        assert heard.take() == (INTX if raised and not masked else [])
        if raised and not masked:
            raised, masked = False, True


def test_a_device_follows_its_command_register_and_both_kinds_of_reset() -> None:
    device = Device(Spec(name="vf0"), Iommufd())
    heard = Heard(device.interrupts)
    cleared: list[bool] = []
    device.clear_bars = lambda: cleared.append(True)
    heard.ask(Irq.INTX, TRIGGER, 9)
    for value, came in ((INTX_DISABLE, []), (0, INTX)):
        device.config_write(Call("config-write", COMMAND, struct.pack("<H", value)))
        if value:
            device.interrupts.interrupt(0)
        assert heard.take() == came
    assert not cleared
    device.interrupts.interrupt(0)
    device.config_write(Call("config-write", DEVICE_CONTROL, struct.pack("<H", FLR)))
    assert cleared
    heard.ask(Irq.INTX, UNMASK)
    assert heard.take() == []


@pytest.fixture
def poll() -> "select.poll":
    return select.poll()


@pytest.fixture
def taken(poll: "select.poll") -> EventDescriptors:
    return EventDescriptors(poll)


@pytest.fixture
def waits() -> Iterator[int]:
    """An event descriptor whose reads and writes wait, as a program may make one."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def test_an_event_descriptor_is_written_each_time(taken: EventDescriptors, waits: int) -> None:
    ours = taken.accept(os.dup(waits))
    for _ in range(3):
        taken.signal(ours)
    assert os.eventfd_read(waits) == 3
    taken.drop(ours)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(ours)


@pytest.mark.parametrize("kind", ["file", "socket", "memfd", "folder", "pidfd"])
def test_nothing_else_is_accepted(taken: EventDescriptors, kind: str) -> None:
    other = {
        "file": lambda: os.open(__file__, os.O_RDONLY),
        "socket": lambda: socket.socket().detach(),
        "memfd": lambda: os.memfd_create("[eventfd]"),
        "folder": lambda: os.open("/", os.O_RDONLY),
        "pidfd": lambda: os.pidfd_open(os.getpid()),
    }[kind]()
    with pytest.raises(OSError, match="not an event descriptor") as caught:
        taken.accept(other)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(other)


def test_no_more_are_taken_than_leave_some_for_calls(
    taken: EventDescriptors, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = os.dup(waits)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (ours + 100, ours + 100))
    with pytest.raises(OSError, match="too much is held open"):
        taken.accept(ours)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(ours)


def test_one_that_is_full_is_left_as_it_is(taken: EventDescriptors, waits: int) -> None:
    os.eventfd_write(waits, 2**64 - 2)
    taken.signal(waits)
    assert os.eventfd_read(waits) == 2**64 - 2


def test_one_that_is_filled_in_between_is_not_waited_for(
    taken: EventDescriptors, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program may do that between the look and the write, or read; its flags stay."""

    def look(_: int, event: int) -> bool:
        if event == select.POLLOUT:
            os.eventfd_write(waits, 2**64 - 2)
        else:
            os.eventfd_read(waits)
        return True

    monkeypatch.setattr(eventfds, "_ready", look)
    flags = fcntl.fcntl(waits, fcntl.F_GETFL)
    taken.signal(waits)
    taken.watch(os.dup(waits))
    assert taken.unmasked()
    assert fcntl.fcntl(waits, fcntl.F_GETFL) == flags
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("flags", [0, os.EFD_SEMAPHORE, os.EFD_NONBLOCK])
def test_the_one_that_unmasks_is_heard_of_once_for_each_write(
    taken: EventDescriptors, poll: "select.poll", flags: int
) -> None:
    theirs = os.eventfd(0, flags | os.EFD_CLOEXEC)
    ours = os.dup(theirs)
    taken.watch(ours)
    assert poll.poll(0) == []
    assert not taken.unmasked()
    for written in (1, 1000):
        os.eventfd_write(theirs, written)
        assert poll.poll(0) == [(taken.unmask, select.POLLIN)]
        assert taken.unmasked()
        assert poll.poll(0) == []
        assert not taken.unmasked()
    taken.drop(ours)
    os.eventfd_write(theirs, 1)
    assert poll.poll(0) == []
    assert taken.unmask == -1
    os.close(theirs)


def test_an_event_that_is_there_already_unmasks_as_well(
    taken: EventDescriptors, poll: "select.poll", waits: int
) -> None:
    os.eventfd_write(waits, 1)
    taken.watch(os.dup(waits))
    assert poll.poll(0) == [(taken.unmask, select.POLLIN)]
    assert taken.unmasked()
