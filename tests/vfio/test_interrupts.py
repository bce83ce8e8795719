"""SET_IRQS gives and takes away event descriptors, and is refused as vfio-pci refuses it."""

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi
from qmptests.vfio.abi import Irq, IrqInfoFlag, IrqSetFlag
from qmptests.vfio.calls import Answer
from qmptests.vfio.interrupts import Interrupts
from qmptests.vfio.spec import Spec
from tests.vfio.caller import Events

NONE, BOOL, EVENTFD = IrqSetFlag.DATA_NONE, IrqSetFlag.DATA_BOOL, IrqSetFlag.DATA_EVENTFD
MASK, UNMASK = IrqSetFlag.ACTION_MASK, IrqSetFlag.ACTION_UNMASK
TRIGGER = IrqSetFlag.ACTION_TRIGGER
EINVAL, ENOTTY = Answer(errno=errno.EINVAL), Answer(errno=errno.ENOTTY)
EBADF = Answer(errno=errno.EBADF)
#: A descriptor that is something else.
FILE = 98


class Asked(Interrupts):
    """Interrupts, with descriptors that are numbers."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.events: Events = Events(FILE)


@pytest.fixture
def interrupts() -> Asked:
    return Asked(Spec(name="vf0", msix_vectors=4))


def ask(
    interrupts: Asked,
    flags: int,
    irq: int,
    start: int = 0,
    count: int = 1,
    data: bytes = b"",
    argsz: int | None = None,
) -> Answer:
    argsz = abi.IRQ_SET.size + len(data) if argsz is None else argsz
    irq_set = abi.IrqSet(argsz, flags, irq, start, count)
    return interrupts.set(irq_set, data, interrupts.events.descriptor)


def give(interrupts: Asked, irq: int, *numbers: int, start: int = 0) -> Answer:
    data = struct.pack(f"<{len(numbers)}i", *numbers)
    return ask(interrupts, EVENTFD | TRIGGER, irq, start, len(numbers), data)


def disable(interrupts: Asked, irq: int) -> Answer:
    return ask(interrupts, NONE | TRIGGER, irq, count=0)


def test_what_there_is_to_interrupt_with(interrupts: Asked) -> None:
    assert [interrupts.info(index) for index in range(6)] == [
        (IrqInfoFlag.EVENTFD | IrqInfoFlag.MASKABLE | IrqInfoFlag.AUTOMASKED, 1),
        (IrqInfoFlag.EVENTFD | IrqInfoFlag.NORESIZE, 0),
        (IrqInfoFlag.EVENTFD, 4),
        (IrqInfoFlag.EVENTFD | IrqInfoFlag.NORESIZE, 1),
        (IrqInfoFlag.EVENTFD | IrqInfoFlag.NORESIZE, 1),
        None,
    ]


def test_a_device_without_intx_and_msix_has_none() -> None:
    bare = Asked(Spec(name="vf0", msix_vectors=0, intx=False))
    assert [bare.info(index) for index in (Irq.INTX, Irq.MSIX)] == [
        (IrqInfoFlag.EVENTFD | IrqInfoFlag.MASKABLE | IrqInfoFlag.AUTOMASKED, 0),
        (IrqInfoFlag.EVENTFD, 0),
    ]
    assert give(bare, Irq.INTX, 9) == EINVAL
    assert disable(bare, Irq.MSIX) == EINVAL


@pytest.mark.parametrize("irq", [Irq.INTX, Irq.MSIX, Irq.ERR, Irq.REQ])
def test_a_descriptor_is_given_replaced_and_taken_away(interrupts: Asked, irq: int) -> None:
    for number in (40, 41):
        assert give(interrupts, irq, number) == Answer()
        assert (interrupts.enabled(irq), interrupts.events.open) == ({0}, [number])
    assert give(interrupts, irq, -1) == Answer()
    assert (interrupts.enabled(irq), interrupts.events.open) == (set(), [])
    give(interrupts, irq, 42)
    assert disable(interrupts, irq) == Answer()
    assert (interrupts.enabled(irq), interrupts.events.open) == (set(), [])


def test_msix_vectors_are_set_up_one_by_one_and_all_at_once(interrupts: Asked) -> None:
    give(interrupts, Irq.MSIX, -1)
    assert interrupts.line is Irq.MSIX
    assert interrupts.enabled(Irq.MSIX) == set()
    assert give(interrupts, Irq.MSIX, 50, start=3) == Answer()
    give(interrupts, Irq.MSIX, 60, -1, 62)
    assert interrupts.enabled(Irq.MSIX) == {0, 2, 3}
    give(interrupts, Irq.MSIX, -1, start=2)
    assert interrupts.enabled(Irq.MSIX) == {0, 3}


def test_intx_and_msix_exclude_each_other(interrupts: Asked) -> None:
    give(interrupts, Irq.INTX, 40)
    assert give(interrupts, Irq.MSIX, 50) == EINVAL
    assert disable(interrupts, Irq.MSIX) == EINVAL
    assert interrupts.enabled(Irq.INTX) == {0}
    disable(interrupts, Irq.INTX)
    assert give(interrupts, Irq.MSIX, 50) == Answer()
    assert give(interrupts, Irq.INTX, 40) == EINVAL


def test_errors_and_requests_go_with_any_of_them(interrupts: Asked) -> None:
    give(interrupts, Irq.MSIX, 50)
    give(interrupts, Irq.ERR, 51)
    give(interrupts, Irq.REQ, 52)
    assert [interrupts.enabled(irq) for irq in (Irq.MSIX, Irq.ERR, Irq.REQ)] == [{0}] * 3
    disable(interrupts, Irq.ERR)
    assert [interrupts.enabled(irq) for irq in (Irq.MSIX, Irq.ERR, Irq.REQ)] == [{0}, set(), {0}]


@pytest.mark.parametrize("irq", [Irq.INTX, Irq.MSIX, Irq.ERR, Irq.REQ])
def test_what_is_not_set_up_cannot_be_taken_away(interrupts: Asked, irq: int) -> None:
    assert disable(interrupts, irq) == EINVAL


@pytest.mark.parametrize(("bad", "answer"), [(Events.BAD, EBADF), (FILE, EINVAL)])
@pytest.mark.parametrize("irq", [Irq.INTX, Irq.MSIX, Irq.ERR, Irq.REQ])
def test_what_is_no_event_descriptor_sets_nothing_up(
    interrupts: Asked, irq: int, bad: int, answer: Answer
) -> None:
    assert give(interrupts, irq, bad) == answer
    assert (interrupts.line, interrupts.enabled(irq), interrupts.events.open) == (None, set(), [])
    give(interrupts, irq, 40)
    assert give(interrupts, irq, bad) == answer
    # vfio_msi_set_vector_signal() takes the old one away before it looks at the new one.
    assert interrupts.events.open == ([] if irq is Irq.MSIX else [40])


def test_a_bad_descriptor_among_good_ones_takes_those_before_it_away(interrupts: Asked) -> None:
    assert give(interrupts, Irq.MSIX, 40, FILE, 42) == EINVAL
    assert (interrupts.line, interrupts.events.open) == (None, [])
    give(interrupts, Irq.MSIX, 50, 51, 52, 53)
    assert give(interrupts, Irq.MSIX, 60, FILE, 62, start=1) == EINVAL
    assert (interrupts.line, interrupts.enabled(Irq.MSIX)) == (Irq.MSIX, {0, 3})
    assert sorted(interrupts.events.open) == [50, 53]


def test_no_vectors_and_yet_descriptors(interrupts: Asked) -> None:
    assert give(interrupts, Irq.MSIX) == Answer(errno=errno.ERANGE)
    assert interrupts.line is None
    assert give(interrupts, Irq.MSIX, start=2) == Answer()
    assert interrupts.line is Irq.MSIX
    assert give(interrupts, Irq.MSIX) == Answer()
    assert ask(interrupts, BOOL | TRIGGER, Irq.MSIX, count=0) == Answer()


@pytest.mark.parametrize("irq", [Irq.ERR, Irq.REQ])
def test_errors_and_requests_know_one_number_for_none(interrupts: Asked, irq: int) -> None:
    give(interrupts, irq, 40)
    assert give(interrupts, irq, -2) == EINVAL
    assert give(interrupts, irq) == EINVAL
    assert ask(interrupts, BOOL | TRIGGER, irq, count=0) == EINVAL
    assert interrupts.events.open == [40]


def test_a_trigger_without_descriptors_raises_those_that_have_one(interrupts: Asked) -> None:
    give(interrupts, Irq.MSIX, 50, 51, -1, 53)
    fires = ask(interrupts, NONE | TRIGGER, Irq.MSIX, 1, 3)
    assert fires == Answer(detail=(("fires", "1,3"),))
    chosen = ask(interrupts, BOOL | TRIGGER, Irq.MSIX, 0, 4, b"\1\0\1\0")
    assert chosen == Answer(detail=(("fires", "0"),))
    assert ask(interrupts, BOOL | TRIGGER, Irq.MSIX, 0, 2, b"\0\0") == Answer()
    assert interrupts.enabled(Irq.MSIX) == {0, 1, 3}


def test_nothing_is_raised_before_it_is_set_up(interrupts: Asked) -> None:
    for irq in (Irq.INTX, Irq.MSIX):
        assert ask(interrupts, NONE | TRIGGER, irq) == EINVAL
    assert ask(interrupts, NONE | TRIGGER, Irq.ERR) == EINVAL
    assert ask(interrupts, BOOL | TRIGGER, Irq.ERR, data=b"\1") == Answer()


def test_intx_is_masked_and_unmasked(interrupts: Asked) -> None:
    assert ask(interrupts, NONE | MASK, Irq.INTX) == EINVAL
    assert ask(interrupts, NONE | UNMASK, Irq.INTX) == EINVAL
    give(interrupts, Irq.INTX, 40)
    steps = [
        *((NONE | MASK, b"", True), (BOOL | UNMASK, b"\0", True), (BOOL | UNMASK, b"\1", False)),
        *((BOOL | MASK, b"\0", False), (BOOL | MASK, b"\1", True), (NONE | UNMASK, b"", False)),
    ]
    for flags, data, masked in steps:
        assert ask(interrupts, flags, Irq.INTX, data=data) == Answer()
        assert interrupts.masked is masked
    ask(interrupts, NONE | MASK, Irq.INTX)
    disable(interrupts, Irq.INTX)
    assert not interrupts.masked


def test_intx_is_unmasked_through_a_descriptor_but_not_masked(interrupts: Asked) -> None:
    give(interrupts, Irq.INTX, 40)
    fd = struct.pack("<i", 41)
    unmask = ask(interrupts, EVENTFD | UNMASK, Irq.INTX, data=fd)
    assert unmask == Answer()
    assert ask(interrupts, EVENTFD | MASK, Irq.INTX, data=fd) == ENOTTY
    assert interrupts.enabled(Irq.INTX) == {0}
    assert (interrupts.events.open, interrupts.events.watched) == ([40, 41], [41])


@pytest.mark.parametrize(("bad", "answer"), [(Events.BAD, EBADF), (FILE, EINVAL)])
def test_there_is_one_descriptor_that_unmasks(interrupts: Asked, bad: int, answer: Answer) -> None:
    give(interrupts, Irq.INTX, 40)
    assert unmask_by(interrupts, bad) == answer
    assert unmask_by(interrupts, 41) == Answer()
    assert unmask_by(interrupts, 42) == Answer(errno=errno.EBUSY)
    assert unmask_by(interrupts, bad) == answer
    assert interrupts.events.watched == [41]
    assert unmask_by(interrupts, -1) == Answer()
    assert interrupts.events.open == [40]
    unmask_by(interrupts, 42)
    disable(interrupts, Irq.INTX)
    assert interrupts.events.open == []


def unmask_by(interrupts: Asked, number: int) -> Answer:
    return ask(interrupts, EVENTFD | UNMASK, Irq.INTX, data=struct.pack("<i", number))


@pytest.mark.parametrize("irq", [Irq.MSIX, Irq.ERR, Irq.REQ])
@pytest.mark.parametrize("action", [MASK, UNMASK])
def test_nothing_but_intx_can_be_masked(interrupts: Asked, irq: int, action: int) -> None:
    give(interrupts, irq, 40)
    assert ask(interrupts, NONE | action, irq) == ENOTTY


@pytest.mark.parametrize("actions", [0, MASK | UNMASK, MASK | TRIGGER, MASK | UNMASK | TRIGGER])
def test_no_action_or_more_than_one_is_unknown(interrupts: Asked, actions: int) -> None:
    assert ask(interrupts, NONE | actions, Irq.INTX) == ENOTTY


@pytest.mark.parametrize(
    ("flags", "irq", "start", "count", "argsz"),
    [
        (NONE | TRIGGER, 5, 0, 0, 20),
        (NONE | TRIGGER, Irq.MSI, 0, 0, 20),
        (NONE | TRIGGER | 1 << 6, Irq.MSIX, 0, 0, 20),
        (TRIGGER, Irq.MSIX, 0, 1, 24),
        (NONE | BOOL | TRIGGER, Irq.MSIX, 0, 1, 24),
        (NONE | TRIGGER, Irq.MSIX, 4, 0, 20),
        (EVENTFD | TRIGGER, Irq.MSIX, 2, 3, 32),
        (EVENTFD | TRIGGER, Irq.MSIX, 1, 0xFFFFFFFF, 40),
        (EVENTFD | TRIGGER, Irq.MSIX, 0, 2, 27),
        (EVENTFD | TRIGGER, Irq.ERR, 0, 0, 20),
        (NONE | TRIGGER, Irq.MSIX, 0, 0, 19),
        (EVENTFD | TRIGGER, Irq.REQ, 0, 2, 28),
    ],
)
def test_requests_that_are_unsound(
    interrupts: Asked, flags: int, irq: int, start: int, count: int, argsz: int
) -> None:
    give(interrupts, Irq.MSIX, 50)
    assert ask(interrupts, flags, irq, start, count, bytes(16), argsz) == EINVAL
    assert interrupts.enabled(Irq.MSIX) == {0}


def test_data_that_could_not_be_read_is_a_fault(interrupts: Asked) -> None:
    answer = ask(interrupts, EVENTFD | TRIGGER, Irq.MSIX, 0, 2, bytes(4), 28)
    assert answer == Answer(errno=errno.EFAULT)


@given(
    st.lists(
        st.tuples(st.sampled_from([Irq.INTX, Irq.MSIX, Irq.ERR]), st.integers(0, 5))
        .flatmap(lambda pair: st.tuples(*map(st.just, pair), st.lists(st.integers(-1, 9))))
        .filter(lambda step: len(step[2]) < 7),
        max_size=20,
    )
)
def test_what_is_answered_is_what_is_set_up(steps: list[Any]) -> None:
    """Who follows the answers alone knows the vectors that have a descriptor."""
    interrupts = Asked(Spec(name="vf0", msix_vectors=4))
    known: dict[int, set[int]] = {irq: set() for irq in Irq}
    for irq, start, numbers in steps:
        answer = give(interrupts, irq, *numbers, start=start) if numbers else None
        answer = disable(interrupts, irq) if answer is None else answer
        if not answer.errno:
            if not numbers:
                known[irq].clear()
            for vector, number in enumerate(numbers, start):
                (known[irq].add if number >= 0 else known[irq].discard)(vector)
        else:
            assert answer == EINVAL
        assert {irq: interrupts.enabled(irq) for irq in Irq} == known
        assert not (known[Irq.INTX] and known[Irq.MSIX])
