"""Evidence read from logs, whole or damaged: what is wrong is a line, the rest is there."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.builds import Build
from qmptests.downtime import addresses, ordering, sources
from qmptests.downtime.moments import Moment, Witness
from qmptests.errors import InputError
from qmptests.fixtures.migrating import Migration
from qmptests.kept import Kept
from qmptests.vfio.calllog import CallLog as Writer
from qmptests.vfio.calls import Answer, Call
from qmptests.vm import devices

HEADER = {"format": 1, "argv": ["qemu"], "devices": [{"name": "vf0"}, {"name": "vf1"}]}
TRACE = """\
7@0.900000:vfio_migration_set_state  (VFIO_FD202) new state STOP_COPY, recover state ERROR
7@0.950000:migrate_set_state new state active
qemu: a message
7@1.500000:vfio_vmstate_change  (0000:01:00.0) running 0 reason paused device state STOP
"""
QMP = [
    {"time": 1.0, "received": {"QMP": {"version": {}}}},
    {"time": 1.1, "sent": {"execute": "query-migrate", "id": "a"}},
    {"time": 1.2, "received": {"return": {"status": "active", "ram": {"n": "x" * 999}}, "id": "a"}},
    {
        "time": 1.9,
        "received": {
            "event": "MIGRATION",
            "data": {"status": "active"},
            "timestamp": {"seconds": 1, "microseconds": 150000},
        },
    },
    {"time": 2.0, "sent": {"execute": "cont"}},
    {"time": 2.1, "received": {"error": {"class": "GenericError", "desc": "no"}}},
    {"time": 3.0, "last": 4.0, "count": 9, "received": {"event": "RTC_CHANGE"}},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source's logs, without an outcome.json."""
    write(tmp_path / "source.trace.log", TRACE)
    lines(tmp_path / "source.qmp.jsonl", QMP)
    lines(tmp_path / "source.vfio.jsonl", [HEADER])
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def lines(path: Path, items: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def read(folder: Path, witness: Witness, *names: str) -> tuple[list[Moment], list[str]]:
    """What a witness says of the source, and the problems of its log."""
    evidence = sources.open(folder)
    known = len(evidence.problems)
    return list(evidence.moments("source", witness, names)), evidence.problems[known:]


def test_a_device_has_our_name_whatever_qemu_calls_it(folder: Path) -> None:
    found, _ = read(folder, Witness.TRACE)
    assert [(m.at_us, m.name, m.device) for m in found] == [
        (900_000, "vfio_migration_set_state", "vf1"),
        (950_000, "migrate_set_state", ""),
        (1_500_000, "vfio_vmstate_change", "0000:01:00.0"),
    ]
    assert found[0].args["new_state"] == "STOP_COPY"


def test_events_can_be_asked_for_by_name(folder: Path) -> None:
    assert [m.name for m in read(folder, Witness.TRACE, "migrate_set_state")[0]] == [
        "migrate_set_state"
    ]
    assert [m.name for m in read(folder, Witness.QMP, "MIGRATION")[0]] == ["MIGRATION"]


def test_a_message_without_a_time_has_that_of_the_line_before(folder: Path) -> None:
    write(folder / "source.stderr.log", "1970-01-01T00:00:02.000000Z qemu: one\ntwo\n")
    found, problems = read(folder, Witness.MESSAGE)
    assert [(m.at_us, m.name) for m in found] == [
        (2_000_000, "qemu: one"),
        (2_000_000, "two"),
        (950_000, "qemu: a message"),
    ]
    assert problems == ["source.trace.log: one line is no event but messages, the first is line 3"]


def test_qmp_events_have_qemus_time_and_answers_their_commands_name(folder: Path) -> None:
    found, problems = read(folder, Witness.QMP)
    assert problems == []
    assert [(m.at_us, str(m)) for m in found if len(m.text) < 100] == [
        (1_000_000, "QMP version={}"),
        (1_100_000, "query-migrate"),
        (1_150_000, "MIGRATION status=active"),
        (2_000_000, "cont"),
        (2_100_000, "cont -> GenericError: no"),
        (3_000_000, "RTC_CHANGE (9 more)"),
    ]
    (answer,) = (m for m in found if len(m.text) >= 100)
    assert answer.name == "query-migrate"
    assert answer.text.startswith("-> status=active ram=")
    assert len(answer.text) <= 160


def test_an_event_that_was_read_late_is_no_step_of_the_clock(folder: Path) -> None:
    stop = {"event": "STOP", "timestamp": {"seconds": 5, "microseconds": 0}}
    lines(
        folder / "source.qmp.jsonl",
        [{"time": 9.0, "sent": {"execute": "cont"}}, {"time": 9.1, "received": stop}],
    )
    found, problems = read(folder, Witness.QMP)
    assert [m.name for m in found] == ["STOP", "cont"]
    assert problems == []


def test_repeated_calls_stand_where_they_began(tmp_path: Path) -> None:
    path = tmp_path / "source.vfio.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = Writer(Kept(descriptor), {"devices": HEADER["devices"]})
    began = time.time_ns() - 10 * 10**9
    for number in range(3):
        log.call("vf0", Call("data-size"), Answer(), began + number * 1_000_000)
    for number in range(6000):
        log.call("vf0", Call("reset"), Answer(), began + (1000 + number) * 1_000_000)
    log.close()  # and here the two that followed the first are told of
    found, problems = read(tmp_path, Witness.CALLS)
    assert problems == []
    assert [m.name for m in found[:3]] == ["data-size", "data-size", "reset"]
    assert found[1].us is None, "when the second of them began is not known"
    assert [m.at_us for m in found] == sorted(m.at_us for m in found)


def test_what_the_guest_said_is_read(folder: Path) -> None:
    said = [{"at": 5, "started": "v1"}, {"at": 7, "reported": 3, "pages": 9}]
    lines(folder / "source.guest.jsonl", said)
    found, problems = read(folder, Witness.GUEST)
    assert [(m.at_us, str(m)) for m in found] == [
        (5, "started v1"),
        (7, "reported counter=3 pages=9"),
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("log", "text", "witness", "says", "count"),
    [
        ("trace.log", TRACE[:-9], Witness.TRACE, "source.trace.log: its last line is cut off", 2),
        (
            "trace.log",
            TRACE + "7@0.100000:a_b \n",
            Witness.TRACE,
            "source.trace.log: the clock went back by 1.400 s; "
            "what follows stands after what came before",
            4,
        ),
        (
            "trace.log",
            "a_b c\n",
            Witness.TRACE,
            "source.trace.log: 1 events without a time stand with the line before",
            1,
        ),
        (
            "qmp.jsonl",
            '{"time": 1, "sent": {"execute": "x"}}\nno json\n',
            Witness.QMP,
            "source.qmp.jsonl: one line is no QMP transcript's and left out, the first is line 2",
            1,
        ),
        (
            "qmp.jsonl",
            '{"time": 1, "sent": {"execute": "x"}}\n{"time": 2, "se',
            Witness.QMP,
            "source.qmp.jsonl: its last line is cut off and left out",
            1,
        ),
        (
            "guest.jsonl",
            '{"at": 1, "started": "x"}\n{"at": "y"}\n',
            Witness.GUEST,
            "source.guest.jsonl: one line is no guest log's and left out, the first is line 2",
            1,
        ),
    ],
)
def test_what_is_wrong_with_a_log_is_one_line_and_the_rest_is_read(
    log: str, text: str, witness: Witness, says: str, count: int, tmp_path: Path
) -> None:
    write(tmp_path / f"source.{log}", text)
    evidence = sources.open(tmp_path)
    for _ in range(2):  # and is told once
        assert len(list(evidence.moments("source", witness))) == count
        assert evidence.problems.count(says) == 1, evidence.problems


def test_another_ones_call_log_is_a_problem_only(folder: Path) -> None:
    write(folder / "source.vfio.jsonl", '{"format": 99}\n')
    found, problems = read(folder, Witness.CALLS)
    assert found == []
    assert len(problems) == 1
    assert "has format 99" in problems[0]
    assert read(folder, Witness.TRACE)[0]


def test_a_missing_log_and_a_missing_side_are_told(folder: Path) -> None:
    (folder / "source.trace.log").unlink()
    evidence = sources.open(folder)
    assert evidence.sides == {"source": "source"}
    assert list(evidence.moments("source", Witness.TRACE)) == []
    assert list(evidence.moments("destination", Witness.TRACE)) == []
    assert evidence.problems[1:] == [
        "there is no log of the destination: what happened there is missing",
        "source.trace.log is not there: what QEMU traced is missing",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no outcome in"),
        ("{", "is no outcome"),
        ('{"schema": 99, "qmptests": "9.0"}', "has schema 99, this qmptests reads 1"),
    ],
)
def test_an_outcome_that_cannot_be_read_leaves_its_logs(
    text: str | None, says: str, folder: Path
) -> None:
    if text is not None:
        write(folder / "outcome.json", text)
    evidence = sources.open(folder)
    assert (evidence.outcome, evidence.attempt, evidence.began_us) == (None, None, None)
    assert says in evidence.problems[0]
    assert len(list(evidence.moments("source", Witness.TRACE))) == 3


def test_a_folder_without_any_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no outcome in"):
        sources.open(tmp_path)


@given(st.lists(st.integers(0, 900_000), max_size=300), st.integers(1, 50))
def test_what_is_late_by_less_than_a_step_is_put_in_order(late: list[int], size: int) -> None:
    times = [n * 1000 + 900_000 - by for n, by in enumerate(late)]
    moments = [Moment(at, "source", Witness.TRACE, "x") for at in times]
    batches = [moments[n : n + size] for n in range(0, len(moments), size)]
    problems: list[str] = []
    found = list(ordering.in_order(batches, "log", lambda _, words: problems.append(words)))
    assert [m.at_us for batch in found for m in batch] == sorted(times)
    assert problems == []


@given(st.lists(st.integers(0, 10_000_000)), st.integers(1, 50))
def test_whatever_the_clock_did_no_moment_is_lost(times: list[int], size: int) -> None:
    moments = [Moment(at, "source", Witness.TRACE, str(n)) for n, at in enumerate(times)]
    batches = [moments[n : n + size] for n in range(0, len(moments), size)]
    found = list(ordering.in_order(batches, "log", lambda *_: None))
    assert sorted(int(m.name) for batch in found for m in batch) == list(range(len(times)))


def test_memory_is_bounded_and_what_is_later_than_that_is_told() -> None:
    window = ordering.WINDOW
    batch = [Moment(n, "source", Witness.TRACE, "x") for n in range(10, 3 * window)]
    late = [Moment(5, "source", Witness.TRACE, "late")]
    problems: list[str] = []
    tell = lambda _, words: problems.append(words)  # noqa: E731
    found = list(ordering.in_order([batch, late, batch[-1:] * window], "log", tell))
    assert len(found[0]) == len(batch) - window
    assert problems == [f"log: lines up to {(2 * window - 6) / 1e3:.3f} ms late stand out of order"]


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("vfio-pci,id=vf0,fd=201,addr=0x10", {"0000:00:10.0/vfio": "vf0"}),
        ("vfio-pci,id=vf0,bus=pcie.0,addr=1f.3", {"0000:00:1f.3/vfio": "vf0"}),
        ('{"driver": "vfio-pci", "id": "a", "addr": "2.1"}', {"0000:00:02.1/vfio": "a"}),
        ("vfio-pci,id=vf0,bus=port,addr=0", {"0000:00:02.0:00.0/vfio": "vf0"}),
        ("vfio-pci,id=vf0,bus=other,addr=0", {}),
        ("vfio-pci,id=vf0", {}),
        ("virtio-net-pci,id=net0,addr=3", {}),
        ("{", {}),
    ],
)
def test_a_section_belongs_to_the_device_with_its_place(option: str, found: dict[str, str]) -> None:
    argv = ["qemu", "-device", "pcie-root-port,id=port,addr=2", "-device", option]
    assert addresses.of(argv) == found


def test_all_witnesses_of_a_real_migration_are_read_in_order(
    migration: Callable[..., Migration], destination_build: Build, tmp_path: Path
) -> None:
    outcome = migration(source=destination_build, devices=(devices.load("idle"),)).run()
    assert outcome.completed, outcome
    evidence = sources.open(outcome.folder)
    assert evidence.outcome == outcome.record
    assert evidence.attempt == outcome.record.attempts[0]
    assert evidence.sides == {"source": "source", "destination": "destination"}
    assert list(evidence.addresses.values()) == ["vf0"]
    for role in evidence.sides:
        for witness in (Witness.QMP, Witness.TRACE, Witness.CALLS, Witness.GUEST):
            times = [moment.at_us for moment in evidence.moments(role, witness)]
            assert times, (role, witness)
            assert times == sorted(times), (role, witness)
    saved = evidence.moments("source", Witness.TRACE, ["vmstate_downtime_save"])
    assert "0000:00:10.0/vfio" in {m.args["idstr"] for m in saved if m.device == "vf0"}
    assert evidence.problems == []
    with pytest.raises(InputError, match="has no attempt 2: there were 1"):
        sources.open(outcome.folder, 1)
    shutil.copytree(outcome.folder, tmp_path / "copy")
    calls = tmp_path / "copy" / "source.vfio.jsonl"
    calls.write_bytes(b"".join(calls.read_bytes().splitlines(keepends=True)[:-1]))
    cut = sources.open(tmp_path / "copy")
    assert list(cut.moments("source", Witness.CALLS))
    assert cut.problems == [f"{calls.name}: it has no end: what came last may be missing"]
    (tmp_path / "copy" / "destination.trace.log").unlink()
    assert not list(sources.open(tmp_path / "copy").moments("destination", Witness.TRACE))
