"""Sizes, acks and passes of the precopy story, from moments as the logs have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.downtime.acks import LEGACY, NEW, Acks
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.passes import Passes
from qmptests.downtime.precopy_data import LIMIT, Bandwidth, Left, Sizes, thinned
from qmptests.downtime.precopy_text import size
from qmptests.downtime.remaining import Remaining

BANDWIDTH = Bandwidth(0, 1000, 1_000_000, 300_000)


def call(at: int, name: str, text: str, device: str = "vf0") -> Moment:
    return Moment(at, "source", Witness.CALLS, name, text, device, 10)


def traced(at: int, name: str, text: str = "", device: str = "") -> Moment:
    return Moment(at, "source", Witness.TRACE, name, text, device)


def info(initial: int, dirty: int, flags: int = 0) -> str:
    return f"-> flags={flags} initial_bytes={initial} dirty_bytes={dirty} (41 us)"


sizes = st.builds(Sizes, st.integers(0, 99), st.integers(0, 99), st.integers(0, 300) | st.none())


@given(sizes, st.integers(0, 300))
def test_what_is_read_is_no_longer_left_and_initial_bytes_come_first(
    before: Sizes, count: int
) -> None:
    after = before.less(count)
    assert before.initial + before.dirty - after.initial - after.dirty == min(
        count, before.initial + before.dirty
    )
    assert not after.initial or after.dirty == before.dirty
    assert after.left >= 0
    assert after.stop_copy >= 0


@pytest.mark.parametrize(("told", "left"), [(" -> bytes=30 (9 us)", 70), (" -> (9 us)", 50)])
def test_a_read_takes_what_it_gave_or_at_most_what_it_was_asked_for(told: str, left: int) -> None:
    remaining = Remaining(["vf0"])
    remaining.see(call(1, "data-size", "-> stop_copy_length=100 (4 us)"))
    remaining.see(call(2, "precopy-info", info(80, 0)))
    assert remaining.left.devices["vf0"] == Sizes(80, 0, 100)
    assert not remaining.had_turn
    remaining.see(call(3, "read", f"length=50{told}"))
    remaining.see(call(4, "read", "length=50 -> ENOMSG (3 us)"))
    assert remaining.left.devices["vf0"].left == left
    (device,) = remaining.devices()
    assert device.read_bytes == 100 - left
    assert device.reading_us == 10
    assert remaining.had_turn


def test_each_reinit_is_counted() -> None:
    remaining = Remaining(["vf0"])
    for at, flags in ((1, 0), (2, 1), (3, 0)):
        remaining.see(call(at, "precopy-info", info(64, 0, flags)))
    again = "-> flags=1 initial_bytes=64 dirty_bytes=0 (3 times in 0.5 ms)"
    remaining.see(call(4, "precopy-info", again))
    (device,) = remaining.devices()
    assert device.reinit_count == 4
    assert [reinit.at_us for reinit in device.reinits] == [2, 4]


def test_a_reinit_moves_what_it_makes_initial_once_that_is_read() -> None:
    remaining = Remaining(["vf0"])
    remaining.see(call(1, "precopy-info", info(64, 0)))
    remaining.see(call(2, "read", "length=50 -> bytes=50 (9 us)"))
    remaining.see(call(3, "precopy-info", info(114, 0, 1)))
    remaining.see(call(4, "read", "length=90 -> bytes=90 (9 us)"))
    (device,) = remaining.devices()
    assert [(reinit.initial, reinit.new) for reinit in device.reinits] == [(114, 100)]
    assert device.moved_bytes == 100 - 24


def test_without_a_call_log_the_trace_tells_the_sizes() -> None:
    text = (
        " (vf0) stopcopy size 90, precopy initial size 20, precopy dirty size 5, "
        "request switchover ack 0, exact 1, final 0"
    )
    query = (
        "exact=1, final=0, precopy=65, stopcopy=65, postcopy=0, total=130, "
        "collected switchover ack pending=0, total switchover ack pending=1"
    )
    for logged, expected in (((), Left(40, {"vf0": Sizes(20, 5, 90)})), (("vf0",), Left(130, {}))):
        remaining = Remaining(logged)
        remaining.see(traced(1, "vfio_state_pending", text, "vf0"))
        remaining.see(traced(2, "qemu_savevm_query_pending", query))
        assert remaining.left == expected


def test_the_estimate_of_10_0_leaves_out_stop_copy_data() -> None:
    remaining = Remaining(["vf0"])
    remaining.see(call(1, "data-size", "-> stop_copy_length=100 (4 us)"))
    remaining.see(call(2, "precopy-info", info(30, 10)))
    remaining.see(
        traced(3, "migrate_pending_estimate", "estimate pending size 60 (pre = 60 post=0)")
    )
    assert remaining.left.ram == 20
    remaining.see(traced(4, "migrate_pending_exact", "exact pending size 160 (pre = 160 post=0)"))
    assert remaining.left.ram == 60


def set_up(kind: str, *devices: str) -> Acks:
    acks = Acks(kind)
    for at, device in enumerate(devices):
        text = f" ({device}) state PRE_COPY"
        acks.see(traced(at, "vfio_migration_set_device_state", text, device))
    return acks


def test_acks_of_the_new_mechanism_come_in_the_order_of_the_initial_data() -> None:
    acks = set_up(NEW, "vf0", "vf1")
    acks.see(traced(10, "vfio_send_init_data_flag", " (vf1)", "vf1"))
    acks.see(traced(11, "loadvm_approve_switchover", "Approver vf1"))
    acks.see(traced(12, "vfio_query_precopy_size_request_switchover_ack", " (vf1)", "vf1"))
    assert acks.missing() == ("vf0", "vf1")
    acks.see(
        traced(13, "source_return_path_thread_switchover_acked", "switchover_ack_pending_num 2")
    )
    assert acks.missing() == ("vf0", "vf1")
    acks.see(traced(14, "vfio_send_init_data_flag", " (vf0)", "vf0"))
    acks.see(
        traced(15, "source_return_path_thread_switchover_acked", "switchover_ack_pending_num 1")
    )
    assert acks.missing() == ("vf1",)
    told = [(a.device, a.why, a.sent_us, a.approved_us, a.given_us) for a in acks.all]
    assert told == [
        ("vf0", "setup", 14, None, 15),
        ("vf1", "setup", 10, 11, 13),
        ("vf1", "reinit", None, None, None),
    ]


def test_the_one_ack_of_the_legacy_mechanism_is_for_all() -> None:
    acks = set_up(LEGACY, "vf0", "vf1")
    acks.see(traced(3, "migration_request_switchover_ack_legacy", "Requester vf0, ..."))
    approved = "Approver vf0, switchover_ack_pending_num_legacy 1"
    acks.see(traced(4, "loadvm_approve_switchover_legacy", approved))
    assert acks.missing() == ("vf1",)
    approved = "Approver vf1, switchover_ack_pending_num_legacy 0"
    acks.see(traced(5, "loadvm_approve_switchover_legacy", approved))
    assert acks.missing() == ("vf0", "vf1")
    acks.see(traced(6, "source_return_path_thread_switchover_acked"))
    assert acks.missing() == ()
    assert [ack.given_us for ack in acks.all] == [6, 6]


def test_approvals_of_10_0_have_no_name_and_go_to_who_was_drained_first() -> None:
    acks = set_up(LEGACY, "vf0", "vf1")
    acks.drained("vf1", 3)
    acks.see(traced(4, "loadvm_approve_switchover", "Switchover ack pending num=1"))
    assert acks.missing() == ("vf0",)
    assert [(ack.sent_us, ack.approved_us) for ack in acks.all] == [(None, None), (3, 4)]


def test_without_acks_none_is_missing() -> None:
    assert set_up("", "vf0").missing() == ()


def happened(at: int, number: int, more: str = "") -> Moment:
    return Moment(at, "source", Witness.QMP, "MIGRATION_PASS", f"pass={number}{more}")


def test_passes_in_which_nothing_changed_are_one() -> None:
    passes, left = Passes(), Left(None, {"vf0": Sizes(0, 0, 500)})
    passes.see(happened(1, 2), left, None)
    passes.see(happened(5, 3), left, None)
    passes.see(happened(9, 9000, " (8997 more)"), left, BANDWIDTH)
    changed = Left(None, {"vf0": Sizes(0, 0, 250)})
    passes.see(happened(20, 9001), left, BANDWIDTH)
    passes.asked(changed)
    rows = passes.end(30, changed, BANDWIDTH)
    assert [(row.number, row.until, row.begin_us, row.end_us) for row in rows] == [
        (2, 9000, 1, 20),
        (9001, 9001, 20, 30),
    ]
    assert passes.count == 9000
    assert rows[-1].expected_ms == 0.25


def test_a_pass_begins_with_the_answers_to_its_first_questions() -> None:
    old, new, newer = (Left(ram, {}) for ram in (9, 5, 1))
    passes = Passes()
    passes.see(happened(1, 2), old, None)
    passes.asked(new)
    passes.read()
    passes.asked(newer)
    (row,) = passes.end(4, newer, None)
    assert (row.first, row.last) == (new, newer)


@given(st.integers(0, 4 * LIMIT))
def test_a_list_that_is_thinned_keeps_its_end_and_all_that_it_covers(count: int) -> None:
    items: list[tuple[int, int]] = []
    for number in range(count):
        items.append((number, number))
        thinned(items, lambda one, two: (one[0], two[1]))
    assert len(items) <= LIMIT
    covered = [n for first, last in items for n in range(first, last + 1)]
    assert covered == list(range(count))
    assert not items or items[-1] == (count - 1, count - 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (4096, "4K"),
        (12 << 20, "12M"),
        (1536 << 10, "1.5M"),
        (1 << 64, "16E"),
    ],
)
def test_sizes_take_few_columns(count: int, text: str) -> None:
    assert size(count) == text
