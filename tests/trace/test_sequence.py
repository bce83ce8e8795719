"""The order of events on both sides is found, or it is said where it broke."""

from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.trace.log import NotConfirmed, TraceLog
from qmptests.trace.sequence import NoTimestamps, SequenceMismatch, Step, match_sequence, merged

LOGS = Path(__file__).parent / "logs"
ENABLED = (
    "loadvm_process_command",
    "migrate_send_rp_message",
    "migrate_set_state",
    "savevm_send_ping",
    "source_return_path_thread_pong",
    "vmstate_downtime_checkpoint",
)


def sides(name: str) -> dict[str, TraceLog]:
    return {
        side: TraceLog(LOGS / name / f"{side}.trace.log", enabled=ENABLED)
        for side in ("source", "destination")
    }


PING_PONG: list[Step] = [
    ("source", "migrate_set_state", {"new_state": "setup"}),
    ("source", "savevm_send_ping", {"value": 1}),
    ("destination", "loadvm_process_command", {"com": "PING"}),
    ("destination", "migrate_send_rp_message", {"type": 2}),
    ("source", "source_return_path_thread_pong"),
    ("destination", "migrate_set_state", {"new state": "completed"}),
]


@pytest.mark.parametrize("pair", ["7.2-to-11.1", "10.0-to-11.1", "11.1-to-11.1"])
def test_a_ping_is_answered_in_order_across_versions(pair: str) -> None:
    events = match_sequence(sides(pair), PING_PONG)
    times = [event.time_us or 0 for event in events]
    assert times == sorted(times)
    assert len(events) == len(PING_PONG)


def test_a_step_in_the_wrong_place_is_explained() -> None:
    steps: list[Step] = [
        ("destination", "migrate_set_state", {"new_state": "completed"}),
        ("source", "savevm_send_ping"),
    ]
    with pytest.raises(SequenceMismatch) as caught:
        match_sequence(sides("11.1-to-11.1"), steps)
    assert str(caught.value) == (
        "step 2 of 2, source savevm_send_ping, was not found after destination line 20 "
        "(migrate_set_state new state completed); it happened only before that, at line 7"
    )
    assert caught.value.step == 1
    assert "  destination:20: migrate_set_state new state completed" in caught.value.__notes__


def test_a_step_with_other_arguments_is_explained() -> None:
    with pytest.raises(
        SequenceMismatch, match=r'happened as "new state setup", "new state active"'
    ):
        match_sequence(
            sides("11.1-to-11.1"), [("source", "migrate_set_state", {"new_state": "failed"})]
        )


def test_a_step_that_did_not_happen_is_explained() -> None:
    with pytest.raises(SequenceMismatch, match="migrate_send_rp_message did not happen at all"):
        match_sequence(sides("11.1-to-11.1"), [("source", "migrate_send_rp_message")])


def test_one_event_is_not_two_steps() -> None:
    step: Step = ("source", "savevm_send_ping")
    with pytest.raises(SequenceMismatch, match="step 2 of 2"):
        match_sequence(sides("11.1-to-11.1"), [step, step])


def test_one_side_needs_no_timestamps_but_two_do() -> None:
    logs = sides("10.0-to-11.1-untimed")
    assert match_sequence(logs, [step for step in PING_PONG if step[0] == "source"])
    with pytest.raises(NoTimestamps, match="start QEMU with -msg timestamp=on"):
        match_sequence(logs, PING_PONG)
    with pytest.raises(NoTimestamps):
        list(merged(logs))


def test_a_step_that_was_not_confirmed_or_has_no_side_is_an_error() -> None:
    with pytest.raises(NotConfirmed):
        match_sequence(sides("11.1-to-11.1"), [("source", "vm_state_notify")])
    with pytest.raises(InputError, match="no trace log of side 'target'"):
        match_sequence(sides("11.1-to-11.1"), [("target", "vm_state_notify")])


def test_the_same_microsecond_may_stand_in_either_order(tmp_path: Path) -> None:
    logs = {}
    for side in ("source", "destination"):
        (tmp_path / side).write_text("1@5.000001:savevm_send_ping 0x1\n")
        logs[side] = TraceLog(tmp_path / side, enabled=["savevm_send_ping"])
    for order in (("source", "destination"), ("destination", "source")):
        assert len(match_sequence(logs, [(side, "savevm_send_ping") for side in order])) == 2


def test_merging_keeps_each_logs_lines_in_order_and_loses_none() -> None:
    logs = sides("10.0-to-11.1")
    placed = list(merged(logs))
    for side, log in logs.items():
        assert [one.entry for one in placed if one.side == side] == list(log.entries())
    times = [one.entry.time_us or 0 for one in placed]
    assert times == sorted(times)


def test_merging_keeps_a_line_that_was_stamped_early_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(
        "1@5.000003:a_b 1\n1@5.000001:a_b 2\nqemu: text\n1@5.000009:a_b 3\n"
    )
    (tmp_path / "b").write_text("1@5.000002:c_d 1\n1@5.000005:c_d 2\n")
    logs = {side: TraceLog(tmp_path / side) for side in ("a", "b")}
    assert [str(one.entry) for one in merged(logs)] == [
        "c_d 1",
        "a_b 1",
        "a_b 2",
        "qemu: text",
        "c_d 2",
        "a_b 3",
    ]
