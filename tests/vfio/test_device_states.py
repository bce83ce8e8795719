"""A device that is asked for anything, in any order, is in the state that it should be in.

The states are compared with `arcs`, which knows them from the kernel's header alone; the data with
an account kept here of what was there to read, and of what was read.
"""

import errno
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qmptests.vfio import abi
from qmptests.vfio.abi import Feature, MigrationFlag
from qmptests.vfio.calls import Answer, Kind
from qmptests.vfio.spec import Spec
from qmptests.vfio.words import state_of
from tests.vfio import arcs
from tests.vfio.caller import GET, PAGE, PROBE, SET, Caller

PAGES = st.integers(0, 6).map(lambda number: number * PAGE)
REINIT = abi.PrecopyInfoFlag.REINIT


class Asking(RuleBasedStateMachine):
    """QEMU, with no plan at all, and a script that has data appear."""

    @initialize(
        abilities=st.sampled_from(arcs.ABILITIES),
        v2=st.booleans(),
        initial=PAGES,
        dirty=PAGES,
        stop_copy=PAGES,
        rate=PAGES,
        late=PAGES,
        late_after=st.integers(0, 5 * PAGE),
    )
    def begin(
        self,
        abilities: tuple[bool, bool],
        v2: bool,
        initial: int,
        dirty: int,
        stop_copy: int,
        rate: int,
        late: int,
        late_after: int,
    ) -> None:
        self.p2p, self.precopy = abilities
        self.v2 = v2
        flags = MigrationFlag.STOP_COPY | MigrationFlag.P2P * self.p2p
        flags |= MigrationFlag.PRE_COPY * self.precopy
        self.spec = Spec(
            "vf0",
            migration=int(flags),
            precopy_v2=v2,
            initial_bytes=initial,
            dirty_bytes=dirty,
            stop_copy=PAGE + stop_copy,
            dirty_rate=rate,
            dirty_limit=7 * PAGE,
            late_bytes=late,
            late_after=late_after,
        )
        self.vf = Caller(self.spec)
        self.state = "running"
        self.opted_in = False
        self.image_is_bad = False
        self.failed = False
        self.moved = 0
        self.close()
        self.vf.device.migration.load = lambda: "bad" if self.image_is_bad else ""

    def close(self) -> None:
        """There is no save: nothing was read, nothing is expected."""
        self.read: list[tuple[Kind, int, int]] = []
        self.position = 0
        self.waiting = 0
        self.late_read = 0
        self.late_times = 0
        self.clock = 0.0
        self.reinit_is_due = False
        self.generation = 0
        self.ended = False

    # --- the account ----------------------------------------------------------------------------

    def opened(self) -> None:
        """A save has begun: so much is there."""
        self.close()
        self.waiting = self.spec.stop_copy
        if self.precopy:
            self.waiting += self.spec.initial_bytes + self.spec.dirty_bytes
        self.late_times = 1
        if self.state != "stop-copy":
            self.look_for_late()

    def look_for_late(self) -> None:
        if self.late_times and self.spec.late_bytes and self.late_read >= self.spec.late_after:
            self.late_times = 0
            self.waiting += self.spec.late_bytes
            self.reinit_is_due = self.opted_in

    def told(self, left: int) -> None:
        """What the device says is left is what the account has, or more by what time brought."""
        grown = left - self.waiting
        assert grown >= 0
        assert grown % PAGE == 0
        if grown:
            assert self.state == "pre-copy"
            assert grown <= (self.vf.now - self.clock) * self.spec.dirty_rate + PAGE
        self.waiting = left

    # --- states ---------------------------------------------------------------------------------

    @rule(wanted=st.sampled_from(arcs.STATES))
    def set_state(self, wanted: str) -> None:
        if self.state == "pre-copy":
            self.told(self.vf.data_size() if not self.failed else self.waiting)
        answer = self.vf.set_state(wanted)
        way = arcs.path(self.state, wanted, self.p2p, self.precopy)
        if self.failed:
            assert answer == Answer(errno=errno.EIO)
            self.failed = False
        elif way is None:
            assert answer == Answer(errno=errno.EINVAL)
        elif self.state == "resuming" and way and self.image_is_bad:
            assert (answer.errno, answer.opens) == (errno.EINVAL, "")
        else:
            assert (answer.errno, answer.value) == (0, 0)
            assert answer.opens == arcs.opens(self.state, wanted)
            before, self.state = self.state, wanted
            if answer.opens == "saving":
                self.opened()
            elif wanted not in arcs.SAVING:
                self.close()
            elif wanted == "stop-copy" != before:
                self.reinit_is_due = False
            if before != wanted:
                self.clock = self.vf.now

    @rule(number=st.integers(8, 0xFFFFFFFF))
    def set_what_is_no_state(self, number: int) -> None:
        if not self.failed:
            answer = self.vf.set_state_number(abi.FeatureMigState(number, 3))
            assert answer == Answer(errno=errno.EINVAL)

    @rule()
    def reset(self) -> None:
        assert self.vf.reset() == Answer()
        self.state, self.failed = "running", False
        self.close()

    @rule()
    def fail(self) -> None:
        self.vf.device.fail()
        self.state, self.failed = "error", True
        self.close()

    @rule(bad=st.booleans())
    def arrive(self, bad: bool) -> None:
        self.image_is_bad = bad

    @invariant()
    def the_device_is_in_that_state(self) -> None:
        if hasattr(self, "vf"):
            assert self.vf.state() == state_of(self.state)

    # --- data -----------------------------------------------------------------------------------

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.vf.now += seconds

    @rule(count=st.one_of(st.integers(0, 3 * PAGE), st.just(1 << 20)))
    def read_some(self, count: int) -> None:
        if self.state == "pre-copy" and not self.failed:
            self.told(self.vf.data_size())
        answer = self.vf.read(count)
        if self.failed:
            assert answer == Answer(errno=errno.EIO)
            self.failed = False
        elif self.state not in arcs.SAVING:
            assert answer == Answer(errno=errno.ENODEV)
        elif answer.span is None:
            dry = self.state != "stop-copy" and count
            assert answer == Answer(errno=errno.ENOMSG if dry else 0)
            if count and not dry:
                assert self.waiting == 0, "all that was announced has been read at the end"
        else:
            self.count_read(answer, count)

    @precondition(lambda self: self.state in arcs.SAVING and not self.failed)
    @rule()
    def read_all(self) -> None:
        """Until there is nothing more; what time brings is not to come in between."""
        self.read_some(1 << 20)
        while self.vf.device.moved != self.moved:
            self.moved = self.vf.device.moved
            self.read_some(1 << 20)

    def count_read(self, answer: Answer, count: int) -> None:
        span = answer.span
        assert span is not None
        assert answer.value == span.length
        assert 0 < span.length <= count
        assert span.start == self.position, "nothing is read twice and nothing left out"
        assert span.generation <= self.generation
        if span.start % PAGE:
            assert (span.kind, span.generation) == self.read[-1][:2], "a page is of one kind"
            assert span.length <= PAGE - span.start % PAGE
        else:
            assert span.generation == self.generation
        if self.state != "stop-copy":
            assert span.kind in (Kind.INITIAL, Kind.DIRTY)
        self.position += span.length
        self.read.append((span.kind, span.generation, span.length))
        self.waiting -= span.length
        self.ended = span.kind is Kind.END
        if self.state != "stop-copy":
            self.late_read += span.length
            self.look_for_late()

    @rule(flags=st.integers(0, 0xFFFFFFFF), argsz=st.sampled_from([0, 23, 24, 32]))
    def precopy_info(self, flags: int, argsz: int) -> None:
        if self.state == "pre-copy":
            self.told(self.vf.data_size())
        found = self.vf.precopy_info(flags, argsz)
        if argsz < 24:
            assert found == errno.EINVAL
            return
        if self.failed:
            assert found == errno.EIO
            self.failed = False
            return
        if self.state not in arcs.PRE_COPY:
            assert found == errno.EINVAL
            return
        assert isinstance(found, abi.PrecopyInfo)
        due = self.reinit_is_due and self.state == "pre-copy"
        assert found.flags == (int(due) * REINIT if self.opted_in else flags)
        left = found.initial_bytes + found.dirty_bytes
        if due:
            assert found.dirty_bytes == 0
            self.reinit_is_due = False
            self.generation += 1
        if not self.reinit_is_due and self.state == "pre-copy":
            assert left + self.spec.stop_copy == self.waiting
        else:
            assert left + self.spec.stop_copy <= self.waiting

    @rule()
    def data_size(self) -> None:
        if self.failed:
            answer, _ = self.vf.feature(Feature.MIG_DATA_SIZE, GET, bytes(8))
            assert answer == Answer(errno=errno.EIO)
            self.failed = False
        elif self.state in arcs.SAVING:
            self.told(self.vf.data_size())
        else:
            first = (self.spec.initial_bytes + self.spec.dirty_bytes) * self.precopy
            assert self.vf.data_size() == self.spec.stop_copy + first

    @precondition(lambda self: self.state in arcs.SAVING and not self.ended)
    @rule(what=st.sampled_from(["reinit", "grow", "dirty"]), size=PAGES)
    def appear(self, what: str, size: int) -> None:
        if self.state == "pre-copy":
            self.told(self.vf.data_size())
        getattr(self.vf.device.migration, what)(size)
        self.waiting += size
        if what == "reinit" and self.opted_in and self.state in arcs.PRE_COPY and size:
            self.reinit_is_due = True

    # --- features -------------------------------------------------------------------------------

    @rule()
    def opt_in(self) -> None:
        answer = self.vf.opt_in()
        expected = 0 if self.precopy else errno.EINVAL
        assert answer == Answer(errno=expected if self.v2 else errno.ENOTTY)
        self.opted_in = self.opted_in or not answer.errno

    @rule(number=st.integers(0, 16), operations=st.sampled_from([0, GET, SET, GET | SET]))
    def probe(self, number: int, operations: int) -> None:
        able: dict[int, Any] = {
            Feature.MIGRATION: GET,
            Feature.MIG_DEVICE_STATE: GET | SET,
            Feature.MIG_DATA_SIZE: GET,
            Feature.DMA_LOGGING_START: SET,
            Feature.DMA_LOGGING_STOP: SET,
            Feature.DMA_LOGGING_REPORT: GET,
            Feature.DMA_BUF: GET,
        }
        if self.v2:
            able[Feature.MIG_PRECOPY_INFOV2] = SET if self.precopy else None
        answer, _ = self.vf.feature(number, operations | PROBE)
        if number not in able:
            assert answer == Answer(errno=errno.ENOTTY)
        else:
            refused = able[number] is None or operations & ~able[number]
            assert answer == Answer(errno=errno.EINVAL if refused else 0)


TestAsking = Asking.TestCase
TestAsking.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
