"""Two logs of the same migration are equal across runs and versions, until they really differ."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.trace.diff import Line, compare

LOGS = Path(__file__).parent / "logs"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_time_thread_and_measured_values_do_not_differ() -> None:
    a, b = (LOGS / name / "source.trace.log" for name in ("10.0-to-11.1", "10.0-to-11.1-untimed"))
    assert a.read_bytes() != b.read_bytes()
    assert compare(a, b).equal


def test_addresses_labels_and_new_names_do_not_differ(tmp_path: Path) -> None:
    a = write(
        tmp_path / "a",
        "7@1.000001:vfio_attach_device  (VFIO_FD4) group 2",
        "7@1.000002:vfio_migration_set_state  (VFIO_FD5) new state RUNNING, recover state ERROR",
        "7@1.000003:handle_qmp_command mon 0x5581e5b2f2c0 req: {}",
        "7@1.000004:source_return_path_thread_switchover_acked ",
        "7@1.000005:vfio_migration_state_notifier  (VFIO_FD4) state 1",
    )
    b = write(
        tmp_path / "b",
        "2026-11-22T19:19:46.788775Z vfio_device_attach  (vf0) group 2",
        "2026-11-22T19:19:46.788776Z vfio_migration_set_state  (vf1) new state RUNNING, recover "
        "state ERROR",
        "2026-11-22T19:19:46.788777Z handle_qmp_command mon 0x7f11e5b2f2c0 req: {}",
        "2026-11-22T19:19:46.788778Z source_return_path_thread_switchover_acked "
        "switchover_ack_pending_num 0",
        "2026-11-22T19:19:46.788779Z vfio_migration_state_notifier  (vf0) state 2",
    )
    assert compare(a, b).equal


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("vfio_x  (vf0) state 1", "vfio_x  (vf0) state 2"),
        ("vfio_load_state  (vf0) data 0xffffffffef100005", "vfio_load_state  (vf0) data 0x1"),
        ("loadvm_approve_switchover Approver vf0", "loadvm_approve_switchover_legacy Approver vf0"),
        (
            "vfio_migration_state_notifier  (vf0) state 1",
            "vfio_migration_state_notifier  (vf0) state 2",
        ),
        ("migrate_set_state new state active", "migrate_set_state new state failed"),
        ("a_b c", "qemu: text"),
        ("qemu: text", "qemu: other text"),
        ("migrate_send_rp_message 7: len 0", "migrate_send_rp_message 2: len 0"),
    ],
)
def test_what_means_something_differs(tmp_path: Path, a: str, b: str) -> None:
    found = compare(write(tmp_path / "a", "a_b c", a), write(tmp_path / "b", "a_b c", b))
    assert not found.equal
    assert found.first is not None
    assert (found.first.a, found.first.b) == ([Line(2, a)], [Line(2, b)])


def test_devices_that_change_places_differ(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "vfio_x  (vf0) 1", "vfio_x  (vf1) 1", "vfio_x  (vf0) 2")
    b = write(tmp_path / "b", "vfio_x  (vf0) 1", "vfio_x  (vf1) 1", "vfio_x  (vf1) 2")
    assert not compare(a, b).equal


def test_the_first_divergence_comes_with_its_context(tmp_path: Path) -> None:
    common = [f"a_b {number}" for number in range(20)]
    a = write(tmp_path / "a", *common, "only_a 1", *common, "c_d 1", "c_d 2")
    b = write(tmp_path / "b", *common, *common, "only_b 1", "only_b 2", "c_d 1")
    found = compare(a, b, context=2)
    assert found.first is not None
    assert found.first.before == [Line(19, "a_b 18"), Line(20, "a_b 19")]
    assert found.first.a == [Line(21, "only_a 1"), Line(22, "a_b 0")]
    assert found.first.b == [Line(21, "a_b 0"), Line(22, "a_b 1")]
    assert (found.only_a, found.only_b) == ({"only_a": 1}, {"only_b": 2})
    assert found.counts == {"c_d": (2, 1)}
    assert (found.divergences, found.a_lines, found.b_lines) == (2, 43, 43)


def test_a_log_that_ends_early_differs_there(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "a_b 1"), write(tmp_path / "b", "a_b 1", "a_b 2")
    found = compare(a, b)
    assert found.first is not None
    assert (found.first.a, found.first.b) == ([], [Line(2, "a_b 2")])


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(InputError, match="no trace event; is it a log"):
        compare(other, write(tmp_path / "b", "a_b c"))
    with pytest.raises(InputError, match="can't read"):
        compare(tmp_path, tmp_path / "b")


@pytest.mark.parametrize("change", ["none", "every tenth line", "all lines"])
def test_a_hundred_thousand_lines_take_seconds(tmp_path: Path, change: str) -> None:
    lines = [f"a_b {number % 977}" for number in range(100_000)]
    other = {
        "none": lines,
        "every tenth line": [f"c_d {n}" if n % 10 == 5 else text for n, text in enumerate(lines)],
        "all lines": [f"c_d {n}" for n in range(100_000)],
    }[change]
    start = time.monotonic()
    found = compare(write(tmp_path / "a", *lines), write(tmp_path / "b", *other))
    assert time.monotonic() - start < 20
    assert found.divergences == {"none": 0, "every tenth line": 10_000}.get(
        change, found.divergences
    )


LINES = st.lists(st.sampled_from(["a_b 1", "a_b 2", "c_d 1", "qemu: x"]), max_size=30)


@given(LINES, LINES)
def test_logs_are_equal_only_when_their_lines_are(
    tmp_path_factory: pytest.TempPathFactory, a: list[str], b: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("diff")
    left, right = write(folder / "a", "a_b 0", *a), write(folder / "b", "a_b 0", *b)
    found = compare(left, right)
    assert found.equal == (a == b)
    assert (found.a_lines, found.b_lines) == (len(a) + 1, len(b) + 1)
    assert compare(right, left).equal == found.equal
