"""A device raises its interrupts: what is masked waits, and descriptors are written."""

import os
import select
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi
from qmptests.vfio.abi import Irq, IrqSetFlag
from qmptests.vfio.calls import Call, EventFds
from qmptests.vfio.device import Device
from qmptests.vfio.eventfds import EventDescriptors
from qmptests.vfio.interrupts import Interrupts
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.pci import COMMAND, DEVICE_CONTROL
from qmptests.vfio.spec import Spec

INTX_DISABLE, FLR = 0x400, 0x8000


class Heard:
    """Interrupts, and those that came."""

    def __init__(self, interrupts: Interrupts | None = None) -> None:
        self.interrupts = interrupts or Interrupts(Spec(name="vf0", msix_vectors=4))
        self.came: list[tuple[Irq, int]] = []
        self.interrupts.signal = lambda irq, vector: self.came.append((irq, vector))

    def ask(self, irq: Irq, action: int, *numbers: int) -> None:
        """Set vectors up from 0 on; without numbers the action alone, on the first."""
        kind = IrqSetFlag.DATA_EVENTFD if numbers else IrqSetFlag.DATA_NONE
        data = struct.pack(f"<{len(numbers)}i", *numbers)
        size = abi.IRQ_SET.size + len(data)
        irq_set = abi.IrqSet(size, kind | action, irq, 0, len(numbers) or 1)
        assert not self.interrupts.set(irq_set, data).errno

    def take(self) -> list[tuple[Irq, int]]:
        """Those that came since the last time."""
        came = self.came[:]
        self.came.clear()
        return came


TRIGGER, MASK, UNMASK = (
    IrqSetFlag.ACTION_TRIGGER,
    IrqSetFlag.ACTION_MASK,
    IrqSetFlag.ACTION_UNMASK,
)
INTX = [(Irq.INTX, 0)]


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
    assert heard.take() == [(Irq.MSIX, vector) for vector in (2, 0, 2)]
    with pytest.raises(ValueError, match="QEMU has not set up MSIX 1: it has 0, 2"):
        heard.interrupts.interrupt(1)


def test_nothing_comes_before_it_is_set_up() -> None:
    heard = Heard()
    with pytest.raises(ValueError, match="QEMU has set no interrupt up"):
        heard.interrupts.interrupt(0)
    for irq in (Irq.ERR, Irq.REQ):
        with pytest.raises(ValueError, match=f"QEMU has not set up {irq.name}"):
            heard.interrupts.notify(irq)
        heard.ask(irq, TRIGGER, 9)
        heard.interrupts.notify(irq)
    assert heard.take() == [(Irq.ERR, 0), (Irq.REQ, 0)]


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
    assert not heard.interrupts.set(irq_set, b"").errno


def test_qemu_can_raise_a_vector_itself() -> None:
    heard = Heard()
    heard.ask(Irq.MSIX, TRIGGER, 9)
    heard.ask(Irq.MSIX, TRIGGER)
    assert heard.take() == [(Irq.MSIX, 0)]


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
def given_() -> Iterator[list[int]]:
    """Event descriptors, as QEMU would give them."""
    made = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3)]
    yield made
    for descriptor in made:
        os.close(descriptor)


def test_descriptors_are_written_until_they_are_taken_away(given_: list[int]) -> None:
    taken = EventDescriptors(select.poll())
    taken.take(EventFds(Irq.MSIX, 0, (given_[0], -1, given_[1])), os.getpid())
    for vector in (0, 1, 2, 2):
        taken.signal(Irq.MSIX, vector)
    assert [os.eventfd_read(descriptor) for descriptor in given_[:2]] == [1, 2]
    taken.take(EventFds(Irq.MSIX, 0, (-1,)), os.getpid())
    taken.take(EventFds(Irq.MSIX, 2, (given_[2],)), os.getpid())
    for vector in (0, 2):
        taken.signal(Irq.MSIX, vector)
    assert os.eventfd_read(given_[2]) == 1
    taken.take(EventFds(Irq.MSIX, 0, ()), os.getpid())
    taken.signal(Irq.MSIX, 2)
    for descriptor in given_:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(descriptor)


def test_the_descriptor_that_unmasks_is_listened_to_until_intx_is_taken_away(
    given_: list[int],
) -> None:
    poll = select.poll()
    taken = EventDescriptors(poll)
    for descriptor in given_[:2]:  # the second in the first one's place
        taken.take(EventFds(Irq.INTX, 0, (descriptor,), unmask=True), os.getpid())
    assert poll.poll(0) == []
    os.eventfd_write(given_[0], 1)
    assert poll.poll(0) == []
    os.eventfd_write(given_[1], 1)
    assert poll.poll(0) == [(taken.unmask, select.POLLIN)]
    assert taken.unmasked()
    assert poll.poll(0) == []
    assert not taken.unmasked()
    taken.take(EventFds(Irq.INTX, 0, ()), os.getpid())
    os.eventfd_write(given_[1], 1)
    assert poll.poll(0) == []
    assert taken.unmask == -1
