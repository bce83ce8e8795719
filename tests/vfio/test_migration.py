"""What a device has to send in each state, and what it says of that."""

import errno
from typing import Any

import pytest

from qmptests.vfio import abi
from qmptests.vfio.abi import Feature, MigrationFlag
from qmptests.vfio.calls import Answer, Call, Kind
from qmptests.vfio.migration import AHEAD, Migration
from qmptests.vfio.spec import Spec
from tests.vfio.caller import ALL, AT, PAGE, Caller

REINIT = abi.PrecopyInfoFlag.REINIT


def caller(**fields: Any) -> Caller:
    base: dict[str, Any] = {
        "initial_bytes": 4 * PAGE,
        "dirty_bytes": 2 * PAGE,
        "stop_copy": 3 * PAGE,
    }
    return Caller(Spec("vf0", **{**base, **fields}))


def info(found: abi.PrecopyInfo | int) -> tuple[int, int, int]:
    """Flags, and pages of initial and dirty data."""
    assert isinstance(found, abi.PrecopyInfo)
    assert found.argsz == 24
    return found.flags, found.initial_bytes // PAGE, found.dirty_bytes // PAGE


class TestASave:
    def test_through_precopy_goes_kind_by_kind_on_one_descriptor(self) -> None:
        vf = caller()
        assert vf.set_state("pre-copy").opens == "saving"
        assert info(vf.precopy_info()) == (0, 4, 2)
        assert vf.read_all() == [("INITIAL", 0, 4 * PAGE), ("DIRTY", 0, 2 * PAGE)]
        assert vf.read() == Answer(errno=errno.ENOMSG)
        assert vf.set_state("pre-copy-p2p").opens == ""
        assert vf.read() == Answer(errno=errno.ENOMSG)
        assert vf.set_state("stop-copy").opens == ""
        assert vf.read_all() == [("STOP_COPY", 0, 2 * PAGE), ("END", 0, PAGE)]
        assert vf.read() == Answer(value=0)
        assert vf.device.moved == 9 * PAGE

    def test_reads_in_stop_copy_first_what_was_not_read_in_precopy(self) -> None:
        vf = caller()
        vf.set_state("pre-copy")
        vf.read(PAGE)
        vf.set_state("stop-copy")
        assert vf.read_all() == [
            ("INITIAL", 0, 3 * PAGE),
            ("DIRTY", 0, 2 * PAGE),
            ("STOP_COPY", 0, 2 * PAGE),
            ("END", 0, PAGE),
        ]

    @pytest.mark.parametrize("before", ["running", "stop"])
    def test_without_precopy_has_all_that_the_device_consists_of(self, before: str) -> None:
        vf = caller()
        vf.set_state(before)
        assert vf.set_state("stop-copy").opens == "saving"
        assert sum(size for _, _, size in vf.read_all()) == 9 * PAGE

    def test_of_a_device_without_precopy_is_what_is_for_stop_copy(self) -> None:
        vf = caller(migration=int(MigrationFlag.STOP_COPY))
        assert vf.data_size() == 3 * PAGE
        vf.set_state("stop-copy")
        assert vf.read_all() == [("STOP_COPY", 0, 2 * PAGE), ("END", 0, PAGE)]

    @pytest.mark.parametrize("away", ["running", "stop"])
    def test_that_is_left_is_lost_and_the_next_begins_anew(self, away: str) -> None:
        vf = caller()
        vf.opt_in()
        vf.set_state("pre-copy")
        vf.device.migration.reinit(PAGE)
        vf.precopy_info()
        vf.device.migration.reinit(PAGE)
        vf.read(100)
        vf.set_state(away)
        assert vf.read() == Answer(errno=errno.ENODEV)
        assert vf.precopy_info() == errno.EINVAL
        assert vf.set_state("stop-copy").opens == "saving"
        first = vf.read().span
        assert first is not None
        assert first == (0, 4 * PAGE, Kind.INITIAL, 0)
        assert vf.data_size() == 5 * PAGE

    def test_does_not_change_kind_within_a_page(self) -> None:
        vf = caller()
        vf.opt_in()
        vf.set_state("pre-copy")
        assert vf.read(100).value == 100
        vf.device.migration.reinit(PAGE)
        assert info(vf.precopy_info()) == (REINIT, 6, 0)
        spans = [vf.read(count).span for count in (50, 1 << 20, 1 << 20)]
        assert spans == [
            (100, 50, Kind.INITIAL, 0),
            (150, PAGE - 150, Kind.INITIAL, 0),
            (PAGE, 6 * PAGE, Kind.INITIAL, 1),
        ]

    def test_says_how_long_a_read_takes_at_a_bandwidth(self) -> None:
        vf = caller(read_bandwidth=PAGE)
        vf.set_state("pre-copy")
        assert [vf.read(PAGE).delay_s, vf.read(PAGE).delay_s] == [1.0, 2.0]

    def test_keeps_its_rate_for_a_reader_who_comes_a_little_late(self) -> None:
        """What it made ready meanwhile is read at once: AHEAD bytes, and none of a state before."""
        vf = caller(read_bandwidth=AHEAD, initial_bytes=5 * AHEAD)
        vf.set_state("pre-copy")
        assert vf.read(AHEAD).delay_s == 1.0
        vf.now = 1.5
        assert [vf.read(AHEAD // 4).delay_s for _ in range(4)] == [0.0, 0.0, 0.25, 0.5]
        vf.now = 100.0
        assert [vf.read(AHEAD).delay_s for _ in range(2)] == [0.0, 1.0]
        vf.now = 200.0
        vf.set_state("stop-copy")
        assert vf.read(AHEAD).delay_s == 1.0

    def test_of_no_bytes_reads_none_and_is_no_error(self) -> None:
        vf = caller(initial_bytes=0, dirty_bytes=0)
        vf.set_state("pre-copy")
        assert vf.read(0) == Answer()


class TestDirtyData:
    def test_comes_with_time_in_whole_pages_and_up_to_its_limit(self) -> None:
        vf = caller(dirty_bytes=0, dirty_rate=2 * PAGE, dirty_limit=5 * PAGE)
        vf.now = 100.0
        vf.set_state("pre-copy")
        for later, pages in [(0.4, 0), (0.75, 1), (1.0, 2), (2.0, 4), (9.0, 5)]:
            vf.now = 100.0 + later
            assert info(vf.precopy_info()) == (0, 4, pages)
        assert vf.data_size() == (4 + 5 + 3) * PAGE
        vf.precopy_info()
        vf.read_all()
        vf.now += 0.5
        assert info(vf.precopy_info()) == (0, 0, 5), (
            "five waited unsaved, and then there is no room"
        )
        vf.read_all()
        vf.now += 0.5
        assert info(vf.precopy_info()) == (0, 0, 1)

    def test_comes_only_in_precopy(self) -> None:
        vf = caller(dirty_bytes=0, dirty_rate=PAGE, dirty_limit=100 * PAGE)
        vf.now = 50.0
        vf.set_state("pre-copy")
        vf.now = 53.0
        vf.set_state("pre-copy-p2p")
        vf.now = 70.0
        assert info(vf.precopy_info()) == (0, 4, 0)
        vf.set_state("stop-copy")
        assert vf.data_size() == (4 + 3 + 3) * PAGE

    def test_that_is_new_can_be_read_once_it_was_asked_for_with_nothing_left(self) -> None:
        vf = caller(dirty_bytes=0)
        vf.set_state("pre-copy")
        vf.read(3 * PAGE)
        vf.device.migration.dirty(2 * PAGE)
        assert info(vf.precopy_info()) == (0, 1, 2), "told, but not saved yet: there is one to read"
        assert vf.read_all() == [("INITIAL", 0, PAGE)]
        assert vf.read() == Answer(errno=errno.ENOMSG)
        assert vf.data_size() == (2 + 3) * PAGE
        assert info(vf.precopy_info()) == (0, 0, 2)
        assert vf.read(PAGE // 2).value == PAGE // 2
        vf.device.migration.dirty(PAGE)
        assert vf.precopy_info() == abi.PrecopyInfo(24, 0, 0, 2 * PAGE + PAGE // 2)
        assert sum(size for _, _, size in vf.read_all()) == PAGE + PAGE // 2
        vf.set_state("pre-copy-p2p")
        assert info(vf.precopy_info()) == (0, 0, 0)
        assert vf.read() == Answer(errno=errno.ENOMSG)
        vf.set_state("stop-copy")
        assert vf.read_all()[0] == ("DIRTY", 0, PAGE)
        assert vf.device.moved == (4 + 2 + 1 + 3) * PAGE

    def test_that_is_new_is_initial_with_a_reinit(self) -> None:
        vf = caller(dirty_bytes=0)
        vf.opt_in()
        vf.set_state("pre-copy")
        vf.device.migration.dirty(2 * PAGE)
        vf.device.migration.reinit(PAGE)
        assert info(vf.precopy_info()) == (REINIT, 7, 0)
        assert vf.read_all() == [("INITIAL", 1, 7 * PAGE)]

    def test_that_was_there_before_the_save_is_in_it(self) -> None:
        vf = caller(dirty_bytes=0, initial_bytes=0, late_bytes=PAGE)
        vf.device.migration.dirty(2 * PAGE)
        vf.set_state("pre-copy")
        assert vf.read_all() == [("DIRTY", 0, 3 * PAGE)]


class TestWhatSomeDriversDo:
    def test_a_field_that_has_nothing_to_say_is_left_as_it_was(self) -> None:
        vf = caller(stale_info=True)
        vf.set_state("pre-copy")
        assert vf.precopy_info() == abi.PrecopyInfo(24, 0, 4 * PAGE, 7)
        vf.read(4 * PAGE)
        assert vf.precopy_info() == abi.PrecopyInfo(24, 0, 7, 2 * PAGE)
        vf.read_all()
        assert vf.precopy_info() == abi.PrecopyInfo(24, 0, 7, 0)

    def test_nothing_to_read_in_precopy_looks_like_the_end(self) -> None:
        vf = caller(dry_is_eof=True, dirty_bytes=0)
        vf.set_state("pre-copy")
        assert vf.read_all() == [("INITIAL", 0, 4 * PAGE)]
        assert vf.read() == Answer()
        vf.set_state("stop-copy")
        assert vf.read_all() == [("STOP_COPY", 0, 2 * PAGE), ("END", 0, PAGE)]


class TestDataSize:
    def test_is_all_that_is_still_to_be_sent(self) -> None:
        vf = caller()
        assert vf.data_size() == 9 * PAGE
        vf.set_state("pre-copy")
        vf.read(3 * PAGE + 10)
        assert vf.data_size() == 6 * PAGE - 10
        vf.device.migration.reinit(PAGE)
        vf.set_state("stop-copy")
        assert vf.data_size() == 7 * PAGE - 10
        vf.read_all()
        assert vf.data_size() == 0

    def test_is_what_is_announced(self) -> None:
        vf = caller(announce=12345)
        assert vf.data_size() == 12345
        vf.device.migration.announce(0)
        assert vf.data_size() == 0
        vf.device.migration.announce(-1)
        assert vf.data_size() == 9 * PAGE


class TestReinit:
    def test_is_reported_once_with_all_that_is_unread_as_initial_bytes(self) -> None:
        vf = caller()
        assert vf.opt_in() == Answer()
        vf.set_state("pre-copy")
        vf.read(PAGE)
        vf.device.migration.reinit(10 * PAGE)
        assert info(vf.precopy_info(flags=0xFFFF)) == (REINIT, 3 + 2 + 10, 0)
        assert info(vf.precopy_info(flags=0xFFFF)) == (0, 15, 0)
        assert vf.read_all() == [("INITIAL", 1, 15 * PAGE)]
        assert vf.device.migration.reinits == 1

    def test_counts_the_rest_of_a_dirty_page_as_initial_bytes(self) -> None:
        vf = caller(initial_bytes=0)
        vf.opt_in()
        vf.set_state("pre-copy")
        vf.read(PAGE // 2)
        vf.device.migration.reinit(PAGE)
        found = vf.precopy_info()
        assert found == abi.PrecopyInfo(24, REINIT, 2 * PAGE + PAGE // 2, 0)

    def test_waits_for_a_device_that_runs(self) -> None:
        vf = caller()
        vf.opt_in()
        vf.set_state("pre-copy-p2p")
        vf.device.migration.reinit(PAGE)
        assert info(vf.precopy_info()) == (0, 4, 2)
        assert vf.data_size() == 10 * PAGE
        vf.set_state("pre-copy")
        assert info(vf.precopy_info()) == (REINIT, 7, 0)

    def test_that_comes_too_late_is_read_as_dirty_bytes(self) -> None:
        vf = caller()
        vf.opt_in()
        vf.set_state("pre-copy")
        vf.read_all()
        vf.device.migration.reinit(5 * PAGE)
        vf.set_state("stop-copy")
        assert vf.read_all()[0] == ("DIRTY", 0, 5 * PAGE)
        assert vf.device.migration.reinits == 0

    def test_without_opt_in_is_dirty_bytes_and_flags_are_the_callers(self) -> None:
        vf = caller()
        vf.set_state("pre-copy")
        vf.device.migration.reinit(5 * PAGE)
        assert info(vf.precopy_info(flags=0xF0)) == (0xF0, 4, 7)

    def test_needs_an_opt_in_that_outlives_reset(self) -> None:
        vf = caller()
        vf.opt_in()
        assert vf.reset() == Answer()
        vf.set_state("pre-copy")
        vf.device.migration.reinit(PAGE)
        assert info(vf.precopy_info())[0] == REINIT

    def test_comes_by_itself_with_late_bytes_each_time_counted_anew(self) -> None:
        vf = caller(late_bytes=2 * PAGE, late_after=3 * PAGE, late_times=2)
        vf.opt_in()
        vf.set_state("pre-copy")
        vf.read(2 * PAGE)
        assert info(vf.precopy_info()) == (0, 2, 2)
        vf.read(2 * PAGE)
        assert info(vf.precopy_info()) == (REINIT, 4, 0)
        vf.read(2 * PAGE)
        assert info(vf.precopy_info()) == (0, 2, 0)
        vf.read(PAGE)
        assert info(vf.precopy_info()) == (REINIT, 3, 0)
        vf.read_all()
        assert info(vf.precopy_info()) == (0, 0, 0)
        vf.set_state("stop-copy")
        assert vf.read_all() == [("STOP_COPY", 2, 2 * PAGE), ("END", 2, PAGE)]

    @pytest.mark.parametrize("opted_in", [True, False])
    @pytest.mark.parametrize("via", ["pre-copy-p2p", "stop-copy"])
    def test_late_bytes_are_all_there_when_precopy_is_left(self, opted_in: bool, via: str) -> None:
        vf = caller(late_bytes=2 * PAGE, late_after=3 * PAGE, late_times=3, late_at_stop=True)
        if opted_in:
            vf.opt_in()
        vf.set_state("pre-copy")
        vf.read(3 * PAGE)
        left = vf.data_size()
        vf.set_state(via)
        assert vf.data_size() == left + 4 * PAGE
        vf.set_state("stop-copy")
        assert len(vf.read_all()) > 0
        vf.set_state("running")
        vf.set_state("pre-copy")
        assert vf.data_size() == (4 + 2 + 3) * PAGE, "an aborted save's come with the next one's"

    def test_late_bytes_after_none_are_there_from_the_beginning(self) -> None:
        vf = caller(late_bytes=PAGE)
        vf.opt_in()
        vf.set_state("pre-copy")
        assert info(vf.precopy_info()) == (REINIT, 7, 0)

    def test_asked_for_before_a_save_comes_with_it(self) -> None:
        vf = caller()
        vf.opt_in()
        vf.device.migration.reinit(PAGE)
        vf.set_state("pre-copy")
        assert info(vf.precopy_info()) == (REINIT, 7, 0)
        vf.set_state("running")
        vf.set_state("pre-copy")
        assert info(vf.precopy_info()) == (0, 4, 2)


class TestWhatAScriptHasAppear:
    def test_initial_bytes_grow_and_no_flag_says_so(self) -> None:
        vf = caller()
        vf.opt_in()
        vf.set_state("pre-copy")
        vf.device.migration.grow(PAGE)
        assert info(vf.precopy_info()) == (0, 5, 2)

    def test_in_stop_copy_comes_before_the_end_and_after_it_not_at_all(self) -> None:
        vf = caller(stop_copy=PAGE)
        vf.set_state("stop-copy")
        migration = vf.device.migration
        migration.grow_stop_copy(PAGE)
        assert [kind for kind, _, _ in vf.read_all()] == ["INITIAL", "DIRTY", "STOP_COPY", "END"]
        for appear in (migration.grow_stop_copy, migration.dirty, migration.grow, migration.reinit):
            appear(PAGE)
        assert vf.read() == Answer(value=0)

    @pytest.mark.parametrize("what", ["reinit", "grow", "dirty", "grow_stop_copy"])
    def test_in_stop_copy_is_read_there_whatever_it_is(self, what: str) -> None:
        vf = caller()
        vf.opt_in()
        vf.set_state("stop-copy")
        for _ in range(2):
            vf.read()
        assert vf.read(100).value == 100
        getattr(vf.device.migration, what)(PAGE)
        pieces = vf.read_all()
        assert {kind for kind, _, _ in pieces} == {"STOP_COPY", "END"}
        assert sum(size for _, _, size in pieces) == 4 * PAGE - 100

    @pytest.mark.parametrize("size", [1, PAGE + 1, -PAGE])
    def test_is_whole_pages(self, size: int) -> None:
        migration = Migration(Spec("vf0"))
        for appear in (migration.grow_stop_copy, migration.dirty, migration.grow, migration.reinit):
            with pytest.raises(ValueError, match="whole pages"):
                appear(size)


class TestALoadThatChecksEachWrite:
    def test_refuses_wrong_data_once_and_then_everything(self) -> None:
        vf = caller(refuse_at_write=True)
        wrong: list[str] = []
        vf.device.migration.arrives = lambda *_: "".join(wrong)
        vf.device.migration.load = lambda: "it is not asked"
        write = Call("write", AT, PAGE)
        for _ in range(2):
            vf.set_state("resuming")
            assert vf.device.handle(write, vf.memory, 0.0) == Answer(value=PAGE)
            wrong.append("bad")
            assert vf.device.handle(write, vf.memory, 0.0).errno == errno.EINVAL
            assert vf.device.handle(write, vf.memory, 0.0) == Answer(errno=errno.ENODEV)
            wrong.clear()
            assert vf.device.handle(write, vf.memory, 0.0) == Answer(errno=errno.ENODEV)
            assert vf.set_state("stop") == Answer(), "mlx5 has loaded all that was right"
        assert vf.device.problems == ["bad", "bad"]
        assert vf.device.moved == 2 * PAGE

    def test_is_not_the_rule(self) -> None:
        vf = caller()
        vf.device.migration.arrives = lambda *_: "bad"
        vf.set_state("resuming")
        assert not vf.device.handle(Call("write", AT, PAGE), vf.memory, 0.0).errno


class TestALoad:
    def test_takes_what_is_written_until_the_state_is_left(self) -> None:
        vf = caller(write_bandwidth=PAGE)
        write = Call("write", AT, 2 * PAGE)
        assert vf.device.handle(write, vf.memory, 0.0) == Answer(errno=errno.ENODEV)
        assert vf.set_state("resuming").opens == "resuming"
        assert vf.device.handle(write, vf.memory, 0.0) == Answer(value=2 * PAGE, delay_s=2.0)
        assert vf.read() == Answer(errno=errno.ENODEV)
        assert vf.precopy_info() == errno.EINVAL
        assert vf.device.moved == 2 * PAGE
        assert vf.set_state("running") == Answer()

    def test_of_an_image_that_is_bad_fails_where_it_is_left_and_only_reset_helps(self) -> None:
        vf = caller()
        vf.set_state("resuming")
        vf.device.migration.load = lambda: "no END page"
        for _ in range(2):
            answer = vf.set_state("running")
            assert answer.errno == errno.EINVAL
            assert dict(answer.detail) == {"problem": "no END page"}
            assert vf.state() == abi.State.RESUMING
        assert vf.device.problems == ["no END page"] * 2
        vf.reset()
        assert vf.state() == abi.State.RUNNING
        assert vf.set_state("stop-copy").opens == "saving"


class TestPrecopyInfo:
    @pytest.mark.parametrize("argsz", [0, 8, 23])
    def test_needs_a_whole_structure(self, argsz: int) -> None:
        vf = caller()
        vf.set_state("pre-copy")
        assert vf.precopy_info(argsz=argsz) == errno.EINVAL

    @pytest.mark.parametrize("state", ["running", "running-p2p", "stop", "stop-copy", "resuming"])
    def test_is_refused_outside_precopy(self, state: str) -> None:
        vf = caller()
        vf.set_state(state)
        assert vf.precopy_info() == errno.EINVAL

    @pytest.mark.parametrize(
        ("migration", "precopy_v2", "expected"),
        [
            (ALL, True, 0),
            (ALL, False, errno.ENOTTY),
            (MigrationFlag.STOP_COPY, True, errno.EINVAL),
            (0, True, errno.EINVAL),
        ],
    )
    def test_opt_in_needs_a_kernel_and_a_device_that_have_it(
        self, migration: int, precopy_v2: bool, expected: int
    ) -> None:
        vf = caller(migration=int(migration), precopy_v2=precopy_v2)
        assert vf.opt_in().errno == expected
        assert vf.feature(Feature.MIG_PRECOPY_INFOV2, 1 << 18)[0].errno == expected
