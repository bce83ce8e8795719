"""Any version's log becomes one stream of entries, and no input breaks it or loses a line."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.trace import parser
from qmptests.trace.parser import Entry, Event, Message, Parser, read, read_events

LOGS = Path(__file__).parent / "logs"


def parse(data: bytes, known: set[str] | None = None) -> list[Entry]:
    one = Parser(known)
    return one.feed(data) + one.close()


def test_log_of_10_0_has_thread_and_time() -> None:
    line = b"8131@1795375187.144165:savevm_send_ping 0x1\n"
    assert parse(line) == [Event("savevm_send_ping", "0x1", 1795375187144165, 8131, 1)]


def test_log_of_11_1_has_time_only() -> None:
    line = b"2026-11-22T19:19:46.789301Z migrate_set_state new state setup\n"
    assert parse(line) == [Event("migrate_set_state", "new state setup", 1795375186789301, None, 1)]


def test_time_without_fraction_is_a_whole_second() -> None:
    line = b"2026-11-22T19:19:46Z migrate_set_state new state setup\n"
    assert parse(line)[0].time_us == 1795375186000000


def test_log_without_timestamps() -> None:
    assert parse(b"savevm_send_switchover_start \nvfio_save_setup  (vf0) data\n") == [
        Event("savevm_send_switchover_start", "", None, None, 1),
        Event("vfio_save_setup", " (vf0) data", None, None, 2),
    ]


def test_a_log_that_lost_its_trailing_blanks_keeps_its_events() -> None:
    assert parse(b"savevm_send_switchover_start\n") == [
        Event("savevm_send_switchover_start", "", None, None, 1)
    ]


@pytest.mark.parametrize(
    ("line", "text", "time_us"),
    [
        (b"qemu-system-x86_64: warning: x", "qemu-system-x86_64: warning: x", None),
        (
            b"2026-11-22T19:19:46.750472Z qemu-system-x86_64: text",
            "qemu-system-x86_64: text",
            1795375186750472,
        ),
        (b"KVM VFIO device isn't created yet", "KVM VFIO device isn't created yet", None),
        (b"", "", None),
        (b"\0\0\0", "\0\0\0", None),
        (b"migrate\xff_set_state x", "migrate\\xff_set_state x", None),
        (b"2026-99-22T19:19:46.1Z a_b c", "2026-99-22T19:19:46.1Z a_b c", None),
        (b"2026-99-22T19:19:46.111111Z a_b c", "2026-99-22T19:19:46.111111Z a_b c", None),
        (b"7@1.000001:{}", "{}", 1000001),
        ("٣@1.000001:a_b c".encode(), "٣@1.000001:a_b c", None),
    ],
)
def test_what_is_no_event_is_a_message(line: bytes, text: str, time_us: int | None) -> None:
    assert parse(line + b"\n") == [Message(text, time_us, 1)]


def test_with_the_builds_names_only_those_are_events() -> None:
    data = b"migrate_set_state new state setup\nnot_an_event x\nioinst 1\n"
    kinds = [type(entry) for entry in parse(data, {"migrate_set_state", "ioinst"})]
    assert kinds == [Event, Message, Event]


def test_an_event_keeps_text_that_is_not_utf8() -> None:
    assert parse(b"migrate_error error=\xff\xc3\xa4\n") == [
        Event("migrate_error", "error=\\xff\u00e4", None, None, 1)
    ]


def test_a_last_line_without_end_is_an_incomplete_message() -> None:
    assert parse(b"a_b c\nmigrate_set_st")[1:] == [Message("migrate_set_st", None, 2, False)]


def test_a_line_beyond_the_limit_is_cut_and_the_rest_is_no_event() -> None:
    one = Parser()
    entries = one.feed(b"a_b " + b"x" * parser.MAX_LINE) + one.feed(b"c_d e\nf_g h\n")
    assert [(type(entry), entry.line) for entry in entries] == [
        (Event, 1),
        (Message, 1),
        (Event, 2),
    ]
    assert one.lines == 2


@pytest.mark.parametrize("path", sorted(LOGS.glob("*/*.log")), ids=lambda path: str(path)[-40:])
def test_every_line_of_real_logs_is_an_event(path: Path) -> None:
    entries = list(read(path))
    assert all(isinstance(entry, Event) for entry in entries)
    assert len(entries) == path.read_bytes().count(b"\n")
    timed = "untimed" not in str(path)
    assert all((entry.time_us is not None) == timed for entry in entries)


def test_reading_by_name_gives_the_same_events_and_line_numbers() -> None:
    path = LOGS / "11.1-to-11.1" / "source.trace.log"
    wanted = [e for e in read(path) if isinstance(e, Event) and e.name == "migrate_set_state"]
    assert [
        event for batch in read_events(path, ["migrate_set_state"]) for event in batch
    ] == wanted
    assert len(wanted) == 4


def test_line_numbers_count_chunks_that_were_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "CHUNK", 7)
    log = tmp_path / "log"
    log.write_text("a_b c\n" * 50 + "migrate_set_state x\n" + "a_b c\n" * 3)
    found = [event for batch in read_events(log, ["migrate_set_state"]) for event in batch]
    assert [event.line for event in found] == [51]


def test_a_missing_log_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can't read the trace log .*No such file"):
        list(read(tmp_path / "none"))


PREFIXES = st.sampled_from(
    [b"", b"12@1795375187.144165:", b"2026-11-22T19:19:46.789301Z ", b"2026-11-22T19:19:46Z "]
)
LINES = st.one_of(
    st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")),
    st.tuples(PREFIXES, st.sampled_from([b"a_b ", b"a_b", b"x "]), st.binary(max_size=20)).map(
        lambda parts: b"".join(parts).replace(b"\n", b"")
    ),
)


@given(st.lists(LINES, max_size=20), st.booleans(), st.lists(st.integers(0, 400), max_size=8))
def test_no_input_raises_and_no_line_is_lost_wherever_it_is_cut(
    lines: list[bytes], ended: bool, cuts: list[int]
) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    whole = parse(data)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    one, pieces = Parser(), []
    for start, end in itertools.pairwise(places):
        pieces += one.feed(data[start:end])
    assert pieces + one.close() == whole
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [entry.line for entry in whole] == list(range(1, len(expected) + 1))
    for entry, line in zip(whole, expected, strict=True):
        shown = line.decode("utf-8", "backslashreplace")
        assert shown.endswith(entry.text)
        if isinstance(entry, Event):
            assert entry.args is not None
            assert shown.removesuffix(entry.text).rstrip(" ").endswith(entry.name)
