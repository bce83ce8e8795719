"""Known issues: which failure an entry explains, and what is wrong with the ledger itself."""

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qmptests import toml
from qmptests.errors import InputError
from qmptests.fixtures.migrating import Migration
from qmptests.matrix import ledger
from qmptests.matrix.cells import Cell, cell_id
from qmptests.matrix.ledger import Issue, Ledger
from qmptests.matrix.results import ItemResult, Verdict
from qmptests.outcome import OutcomeRecord, Result
from qmptests.vm import Definition

TODAY = date(2026, 11, 30)
ENTRY: dict[str, Any] = {
    "name": "virtio-vring-num",
    "reference": "docs/findings/virtio-vring-num.md",
    "expires": date(2027, 3, 1),
    "result": "failed-destination-exited",
    "side": "destination",
    "stage": "active",
    "text": r"VQ \d+ vring\.num \d+ exceeds allocated max",
    "cells": "source=10.0.13,destination=11.1*",
}
VRING = Issue(**ENTRY)
WORDS = "qemu-system-x86_64: VQ 0 vring.num 1024 exceeds allocated max 256"


def side(name: str, *stderr: str, exited: str = "", asked: bool = False) -> dict[str, Any]:
    build = dict.fromkeys(("name", "spec", "version", "version_text", "digest"), "")
    end = {"returncode": 1, "text": exited, "cpu_s": 0, "max_rss_kib": 0, "asked": asked}
    return {
        "name": name,
        "build": build,
        "argv": [],
        "environment": {},
        "trace": {"enabled": [], "unmatched": []},
        "guest": {},
        "stderr_tail": list(stderr),
        "exit": end if exited else None,
    }


def failure(
    result: str = "failed-destination-exited",
    phases: tuple[str, ...] = ("listening", "active", "ended", "stopped"),
    error: str = "",
    attempt: str = "",
    source: tuple[str, ...] = (),
    destination: tuple[str, ...] = (WORDS,),
    exited: str = "",
    asked: bool = False,
) -> OutcomeRecord:
    host = {"hostname": "", "kernel": "", "cpu": "", "python": ""}
    plan: dict[str, Any] = dict.fromkeys(("machine", "accelerator", "transport", "expected"), "")
    plan |= {"definition": {}, "capabilities": {}, "parameters": {}, "trace": []}
    plan |= {"address_form": "", "timeout_s": 1}
    tried = {"destination": 0, "started": 0, "ended": 0, "status": "failed", "times": {}}
    return msgspec.convert(
        {
            "qmptests": "",
            "name": "",
            "created": 0,
            "host": {**host, "cpus": 1, "memory_bytes": 1, "load_1min": 0},
            "plan": plan,
            "result": result,
            "error": error,
            "phases": [{"name": name, "at_ms": 0} for name in phases],
            "attempts": [{**tried, "error": attempt}] if attempt else [],
            "source": side("source", *source),
            "destinations": [side("destination", *destination, exited=exited, asked=asked)],
        },
        OutcomeRecord,
    )


def test_a_failure_that_looks_as_the_entry_says_is_explained() -> None:
    assert VRING.why_not(failure()) == ""
    assert VRING.explains(failure())


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (
            failure(result="destination-died"),
            "the result is destination-died, not failed-destination-exited",
        ),
        (
            failure(phases=("listening", "ended", "stopped")),
            "the last phase before the failure is 'listening', not 'active'",
        ),
        (
            failure(phases=("active", "pre-switchover", "ended", "stopped")),
            "the last phase before the failure is 'pre-switchover', not 'active'",
        ),
        (failure(phases=("stopped",)), "the last phase before the failure is '', not 'active'"),
        (
            failure(destination=("Size mismatch: pc.ram",), source=(WORDS,), attempt=WORDS),
            f"nothing that the destination said matches {VRING.text!r}",
        ),
        (failure(destination=(), error=f"Broken pipe; the destination said: {WORDS}"), "nothing"),
    ],
)
def test_any_other_failure_is_not_and_the_first_difference_is_said(
    record: OutcomeRecord, why: str
) -> None:
    assert VRING.why_not(record).startswith(why)
    assert not VRING.explains(record)


@pytest.mark.parametrize(
    ("record", "source", "destination"),
    [
        (failure(attempt="Sibling", source=("a",), destination=("b",)), ["a", "Sibling"], ["b"]),
        (failure("start-failed", destination=(), exited="exited with status 1"), [], "exited"),
        (failure(destination=(), exited="exited with status 0", asked=True), [], []),
        (failure("qmp-error", destination=(), error="source: migrate: no"), "source: migrate", []),
        (failure("destination-died", destination=(), error="destination was killed"), [], "dest"),
        (failure("timed-out", destination=(), error="timed out"), "timed out", "timed out"),
        (failure("memory-wrong", destination=(), error="page 3"), "page 3", "page 3"),
    ],
)
def test_each_side_is_asked_for_its_own_words(
    record: OutcomeRecord, source: list[str] | str, destination: list[str] | str
) -> None:
    for name, expected in (("source", source), ("destination", destination)):
        found = ledger.words(record, name)
        if isinstance(expected, str):
            assert len(found) == 1
            assert found[0].startswith(expected)
        else:
            assert found == expected


def test_a_second_destination_is_a_destination_too() -> None:
    record = failure(destination=())
    record.destinations.append(msgspec.structs.replace(record.destinations[0]))
    record.destinations[1].name = "destination-2"
    record.destinations[1].stderr_tail = [WORDS]
    assert VRING.explains(record)


@given(
    result=st.sampled_from(Result),
    side=st.sampled_from(ledger.SIDES),
    stage=st.sampled_from(ledger.STAGES),
    text=st.sampled_from([".", "VQ", r"\w+"]),
    seen=st.sampled_from([Result.COMPLETED, Result.ENVIRONMENT, Result.INTERRUPTED]),
)
def test_no_entry_expects_a_success_or_an_error_of_the_environment(
    result: str, side: str, stage: str, text: str, seen: Result
) -> None:
    entry = {**ENTRY, "result": result, "side": side, "stage": stage, "text": text}
    try:
        issue = Issue(**entry)
    except InputError:
        assert result not in ledger.RESULTS
        return
    phases = (stage, "ended", "stopped") if stage else ("stopped",)
    said = ("VQ",)
    assert issue.explains(failure(result, phases, source=said, destination=said))
    assert not issue.explains(failure(seen, phases, source=said, destination=said))


def write(path: Path, *entries: dict[str, Any]) -> Path:
    """A ledger file; JSON's strings are TOML's too."""
    lines = []
    for entry in entries:
        lines.append("[[issue]]")
        for key, value in entry.items():
            lines.append(f"{key} = {value if isinstance(value, date) else json.dumps(value)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_is_read_as_it_was_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "issues.toml", ENTRY, {**ENTRY, "name": "other"})
    read = ledger.load(path, TODAY)
    assert read == Ledger((VRING, Issue(**{**ENTRY, "name": "other"})), TODAY, str(path))
    (tmp_path / "empty.toml").touch()
    assert ledger.load(tmp_path / "empty.toml", TODAY).issues == ()


@pytest.mark.parametrize("key", ENTRY)
def test_every_key_is_required(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "issues.toml", {k: v for k, v in ENTRY.items() if k != key})
    entry = "issue 1" if key == "name" else "issue 'virtio-vring-num'"
    with pytest.raises(InputError) as caught:
        ledger.load(path, TODAY)
    assert str(caught.value) == f"{path}: {entry}: Object missing required field `{key}`"


@pytest.mark.filterwarnings("ignore")  # they are made errors by us, not by pytest
@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("name", "two words", "issue 'two words': name: 'two words' is not made of letters"),
        ("name", "", "issue 1: name: '' is not made of letters"),
        ("name", 7, "issue 1: name: Expected `str`, got `int`"),
        ("reference", " ", "reference: say in one line where the issue is described"),
        ("reference", "a\nb", "reference: say in one line where the issue is described"),
        ("expires", "soon", "expires: Invalid RFC3339 encoded date"),
        ("result", "failed", "result: 'failed' is none of cancelled, failed-destination-alive, "),
        ("result", "environment", "result: 'environment' is none of "),
        ("result", "completed", "result: 'completed' is none of "),
        ("side", "both", "side: 'both' is none of source, destination"),
        ("stage", "ended", "stage: 'ended' is none of '', started, configured, "),
        ("text", "VQ (", "text: 'VQ (' is not a regular expression: missing )"),
        ("text", "a{99999999999}", "is not a regular expression: the repetition number"),
        ("text", "[[a]", "is not a regular expression: Possible nested set"),
        ("text", ".*", "text: '.*' matches any words; quote some of QEMU's"),
        ("text", "", "text: '' matches any words; quote some of QEMU's"),
        ("cells", "sorce=1", "cells: cell expression 'sorce=1': unknown axis 'sorce'"),
        ("cells", "", "cells: cell expression '': an empty term"),
        ("colour", "red", "Object contains unknown field `colour`"),
    ],
)
def test_what_is_wrong_is_said_with_file_entry_and_key(
    tmp_path: Path, key: str, value: object, error: str
) -> None:
    path = write(tmp_path / "issues.toml", {**ENTRY, key: value})
    with pytest.raises(InputError, match=re.escape(error)) as caught:
        ledger.load(path, TODAY)
    assert str(caught.value).startswith(f"{path}: issue ")
    assert len(str(caught.value).splitlines()) == 1


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "issues.toml", ENTRY, ENTRY)
    with pytest.raises(InputError, match=r"issue 'virtio-vring-num': name: there are two"):
        ledger.load(path, TODAY)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[issue]\n", ":1: not valid TOML: "),
        ("[[issues]]\n", ": Object contains unknown field `issues`"),
        ("issue = 1\n", ": issue: Expected `array`, got `int`"),
        ("issue = [1]\n", ": issue[0]: Expected `object`, got `int`"),
    ],
)
def test_a_file_that_is_no_ledger_says_where(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "issues.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        ledger.load(path, TODAY)
    assert str(caught.value).startswith(f"{path}{error}")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    path = tmp_path / "issues.toml"
    with pytest.raises(InputError, match=f"cannot read known issues {re.escape(str(path))}: No"):
        ledger.load(path, TODAY)


@given(st.text(max_size=20))
def test_no_text_is_more_than_one_line_of_an_input_error(text: str) -> None:
    for key in ("name", "reference", "result", "side", "stage", "text", "cells"):
        try:
            assert Issue(**{**ENTRY, key: text})
        except InputError as error:
            assert str(error).startswith(f"{key}: ")  # noqa: PT017
            assert len(str(error).splitlines()) == 1  # noqa: PT017


def cell(source: str, destination: str = "11.1.3", machine: str = "pc-q35-10.0") -> Cell:
    at = {"source": source, "destination": destination, "machine": machine, "vm": "none"}
    at |= {"device": "virtio-net", "transport": "unix", "capabilities": "none"}
    return Cell(id=cell_id(at), coordinates=at)


def item(of: Cell, verdict: Verdict, result: str = "completed") -> ItemResult:
    return ItemResult(nodeid="test", verdict=verdict, seconds=0, cell=of.id, result=result)


BAD, BAD_OLD = cell("10.0.13"), cell("10.0.13", machine="pc-q35-9.2")
GOOD = cell("10.0.2")
LIVE = [BAD, BAD_OLD, GOOD]


def findings(*items: ItemResult, issue: Issue = VRING, live: list[Cell] = LIVE) -> list[str]:
    return Ledger((issue,), TODAY, "issues.toml").findings(live, items)


def test_an_entry_is_asked_about_its_own_cells_until_its_last_day() -> None:
    for day, known in ((VRING.expires, [VRING]), (date(2027, 3, 2), [])):
        read = Ledger((VRING,), day)
        assert read.issues_of(BAD.coordinates) == known
        assert read.issues_of(GOOD.coordinates) == []


def test_a_ledger_of_which_every_entry_was_seen_is_as_it_should_be() -> None:
    assert not findings(
        item(BAD, Verdict.EXPECTED, "failed-destination-exited"), item(GOOD, Verdict.PASSED)
    )


def test_an_expired_entry_is_a_finding_even_if_nothing_of_it_ran() -> None:
    issue = msgspec.structs.replace(VRING, expires=date(2026, 11, 29))
    expected = [
        "issues.toml: issue 'virtio-vring-num' expired on 2026-11-29: look at "
        "docs/findings/virtio-vring-num.md, then remove the entry or give it a new date"
    ]
    assert findings(issue=issue) == expected
    assert findings(issue=issue, live=[]) == expected


def test_an_entry_of_no_cell_is_a_finding() -> None:
    assert findings(live=[GOOD]) == [
        "issues.toml: issue 'virtio-vring-num' is of no cell of this matrix: "
        "correct 'source=10.0.13,destination=11.1*' or remove it"
    ]


def test_an_entry_whose_cell_passed_is_a_finding_with_the_cell() -> None:
    (one,) = findings(item(BAD, Verdict.EXPECTED), item(BAD_OLD, Verdict.PASSED))
    assert one == (
        "issues.toml: issue 'virtio-vring-num': s10.0.13-d11.1.3-m.q35-9.2-v.none-x.virtio-net "
        "passed: narrow 'source=10.0.13,destination=11.1*' or remove the entry"
    )
    assert findings(item(BAD_OLD, Verdict.SKIPPED), item(BAD_OLD, Verdict.PASSED)) == [one]
    (both,) = findings(item(BAD, Verdict.PASSED), item(BAD_OLD, Verdict.PASSED))
    assert f"{BAD.id} and 1 more passed" in both


@pytest.mark.parametrize(
    "items",
    [
        [],
        [item(BAD, Verdict.SKIPPED)],
        [item(BAD, Verdict.ERROR)],
        [item(BAD, Verdict.LOST)],
        [item(BAD, Verdict.FAILED, "timed-out")],
        [item(BAD, Verdict.PASSED, "failed-destination-exited")],
        [item(BAD, Verdict.PASSED, "")],
        [item(BAD, Verdict.PASSED), item(BAD, Verdict.EXPECTED)],
        [item(BAD, Verdict.PASSED), item(BAD, Verdict.ERROR)],
    ],
    ids=[
        *("not-run", "skipped", "error", "lost", "failed"),
        *("saw-its-refusal", "migrated-nothing", "another-item-met-it", "another-item-lost"),
    ],
)
def test_a_cell_that_did_not_plainly_pass_says_nothing_about_the_entry(
    items: list[ItemResult],
) -> None:
    assert not findings(*items)


@given(
    names=st.lists(st.sampled_from(["7.2", "10.0.2", "10.0.13"]), min_size=1, unique=True),
    verdicts=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(Verdict)), max_size=6),
    known=st.sampled_from(["7.2", "10.0.*", "10.0.13", "*", "11.1*"]),
    expires=st.dates(date(2026, 11, 28), date(2026, 12, 2)),
)
def test_there_is_a_finding_if_and_only_if_expired_or_of_no_cell_or_passed(
    names: list[str], verdicts: list[tuple[int, Verdict]], known: str, expires: date
) -> None:
    live = [cell(name) for name in names]
    items = [item(live[n % len(live)], verdict) for n, verdict in verdicts]
    issue = msgspec.structs.replace(VRING, cells=f"source={known}", expires=expires)
    of_issue = [c for c in live if re.fullmatch(known.replace("*", ".*"), c.coordinates["source"])]
    seen = [{i.verdict for i in items if i.cell == c.id} - {Verdict.SKIPPED} for c in of_issue]
    wrong = expires < TODAY or not of_issue or {Verdict.PASSED} in seen
    assert bool(findings(*items, issue=issue, live=live)) is wrong
    assume(wrong)
    (line,) = findings(*items, issue=issue, live=live)
    assert len(line.splitlines()) == 1


def test_the_documented_entry_explains_its_failure_and_no_other(
    migration: Callable[..., Migration],
) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "known-issues.md"
    (example,) = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    idle = Definition(devices=["virtio-net-pci,addr=04.0"], name="idle")
    table = toml.parse(example, str(page))["issue"][0]
    issue = toml.structure(table, str(page), Issue)

    failed = migration(vm=idle, machine="pc-q35-10.0", capabilities=["return-path"]).run()
    if failed.completed:
        names = f"{failed.source.record.build.name} to {failed.destination.record.build.name}"
        pytest.skip(f"{names} does not have the bug that the page documents")
    assert issue.why_not(failed.record) == ""

    others = migration(
        vm=idle,
        machine="pc-q35-10.0",
        destination_machine="pc-q35-9.2",
        capabilities=["return-path"],
    ).run()
    assert others.record.result == issue.result
    assert issue.why_not(others.record).startswith("nothing that the destination said matches")

    refused = migration(vm=idle, destination_args=("-nonsense",)).run()
    assert issue.why_not(refused.record) == (
        "the result is start-failed, not failed-destination-exited"
    )
    as_start = msgspec.structs.replace(
        issue, result="start-failed", stage="", text="-nonsense: invalid option"
    )
    assert as_start.why_not(refused.record) == ""
