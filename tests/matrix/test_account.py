"""From the phases of an item to one verdict, in whatever order the workers report."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from qmptests.matrix.account import Account, PhaseReport, nothing_ran
from qmptests.matrix.results import ItemResult, Verdict, by_pair, count

KNOWN = {"qemu_issue": "stuck"}
ENVIRONMENT = {"qemu_result": "environment"}
EMULATION = {"qemu_result": "emulation-failed"}

How = tuple[str, dict[str, str]]

#: What a phase can come to: outcome and properties.
PASSED: How = ("passed", {})
FAILED: How = ("failed", {})
SKIPPED: How = ("skipped", {})
EXPECTED: How = ("skipped", KNOWN)
NO_QEMU: How = ("failed", ENVIRONMENT)
NO_DEVICE: How = ("failed", EMULATION)
DIED: str = "died"


def report(nodeid: str, when: str, how: How | str, **more: object) -> PhaseReport:
    if isinstance(how, str):  # the process died
        return PhaseReport(nodeid=nodeid, when="", outcome="failed", **more)  # type: ignore[arg-type]
    outcome, properties = how
    values = {"properties": properties, "because": f"{when} {outcome}", **more}
    return PhaseReport(nodeid=nodeid, when=when, outcome=outcome, **values)  # type: ignore[arg-type]


def judge(*reports: PhaseReport) -> ItemResult:
    account = Account()
    results = [account.add(one) for one in reports]
    assert results[:-1] == [None] * (len(reports) - 1)
    assert results[-1] is not None
    assert account.items == [results[-1]]
    return results[-1]


def histories() -> Iterator[list[tuple[str, How | str]]]:
    """Every way in which pytest runs an item: no call after a setup that did not pass."""
    setups: list[How | str] = [PASSED, FAILED, SKIPPED, NO_QEMU, DIED]
    calls: list[How | str] = [PASSED, FAILED, SKIPPED, EXPECTED, NO_QEMU, NO_DEVICE, DIED]
    teardowns: list[How | str] = [PASSED, FAILED, NO_QEMU, DIED]
    for setup in setups:
        if setup == DIED:
            yield [("setup", setup)]
            continue
        followers = calls if setup == PASSED else [None]
        for call, teardown in itertools.product(followers, teardowns):
            phases: list[tuple[str, How | str]] = [("setup", setup)]
            if call is not None:
                phases.append(("call", call))
            if call != DIED:
                phases.append(("teardown", teardown))
            yield phases


def right(phases: list[tuple[str, How | str]]) -> Verdict:
    """The verdict that the words of the documentation lead to."""
    for when, how in phases:
        if how == DIED:
            return Verdict.LOST
        if how == FAILED and when == "call":
            return Verdict.FAILED
        if how in (FAILED, NO_QEMU, NO_DEVICE):
            return Verdict.ERROR
    if ("call", EXPECTED) in phases:
        return Verdict.EXPECTED
    return Verdict.SKIPPED if SKIPPED in [how for _, how in phases] else Verdict.PASSED


@pytest.mark.parametrize("phases", list(histories()))
def test_each_history_has_its_verdict(phases: list[tuple[str, How | str]]) -> None:
    result = judge(*(report("a", when, how) for when, how in phases))
    assert result.verdict is right(phases)
    assert result.nodeid == "a"


@pytest.mark.parametrize(
    ("phases", "verdict"),
    [
        ([("setup", PASSED), ("call", PASSED), ("teardown", PASSED)], "passed"),
        ([("setup", PASSED), ("call", FAILED), ("teardown", PASSED)], "failed"),
        ([("setup", PASSED), ("call", FAILED), ("teardown", FAILED)], "failed"),
        ([("setup", PASSED), ("call", FAILED), ("teardown", DIED)], "failed"),
        ([("setup", PASSED), ("call", EXPECTED), ("teardown", PASSED)], "expected"),
        ([("setup", PASSED), ("call", EXPECTED), ("teardown", FAILED)], "error"),
        ([("setup", PASSED), ("call", EXPECTED), ("teardown", SKIPPED)], "expected"),
        ([("setup", PASSED), ("call", NO_QEMU), ("teardown", PASSED)], "error"),
        ([("setup", PASSED), ("call", PASSED), ("teardown", FAILED)], "error"),
        ([("setup", PASSED), ("call", DIED)], "lost"),
        ([("setup", SKIPPED), ("teardown", PASSED)], "skipped"),
        ([("setup", SKIPPED), ("teardown", FAILED)], "error"),
        ([("setup", FAILED), ("teardown", PASSED)], "error"),
    ],
)
def test_what_went_wrong_first_decides(phases: list[tuple[str, How]], verdict: str) -> None:
    assert judge(*(report("a", when, how) for when, how in phases)).verdict == verdict


CELL = {"qemu_cell": "sa-db-m.q35-9.2", "qemu_source": "a", "qemu_machine": "pc-q35-9.2"}
CALL = {
    "qemu_result": "failed",
    "qemu_because": "Unknown savevm section",
    "qemu_evidence": "t/x",
    "qemu_downtime_ms": "12",
    "qemu_issue": "stuck",
}


def test_an_item_says_what_its_phases_said_together() -> None:
    """A teardown's report repeats the call's properties, as pytest's do."""
    result = judge(
        report("t::x[y]", "setup", ("passed", CELL), seconds=0.25, worker="gw1"),
        report("t::x[y]", "call", ("skipped", CELL | CALL), seconds=0.5, worker="gw1"),
        report("t::x[y]", "teardown", ("passed", CELL | CALL), seconds=0.125, worker="gw1"),
    )
    assert result == ItemResult(
        nodeid="t::x[y]",
        verdict=Verdict.EXPECTED,
        seconds=0.875,
        cell="sa-db-m.q35-9.2",
        coordinates={"source": "a", "machine": "pc-q35-9.2"},
        result="failed",
        because="Unknown savevm section",
        issue="stuck",
        evidence="t/x",
        downtime_ms=12,
        worker="gw1",
    )


def test_the_reason_is_that_of_the_phase_which_decided() -> None:
    qemu = {"qemu_because": "Unknown savevm section"}
    setup = report("a", "setup", PASSED)
    failed = report("a", "call", ("failed", qemu))
    passed = report("a", "call", ("passed", qemu))
    teardown = report("a", "teardown", ("failed", qemu))
    assert judge(setup, failed, teardown).because == "Unknown savevm section"
    assert judge(setup, passed, teardown).because == "teardown failed"
    assert judge(setup, report("a", "call", FAILED), teardown).because == "call failed"
    assert judge(setup, passed, report("a", "teardown", PASSED)).because == "teardown passed"


def died(**properties: str) -> PhaseReport:
    return PhaseReport(
        nodeid="a", when="", outcome="failed", properties=properties, because="'gw0' crashed"
    )


def test_a_lost_item_says_what_is_known_of_it() -> None:
    setup = report("a", "setup", ("passed", CELL))
    lost = judge(setup, died(qemu_result="lost", qemu_evidence="t/x"))
    assert (lost.verdict, lost.result, lost.evidence) == ("lost", "lost", "t/x")
    assert (lost.cell, lost.because) == ("sa-db-m.q35-9.2", "'gw0' crashed")
    assert judge(died(qemu_because="can't be written")).because == "can't be written"


def test_a_process_that_dies_after_a_failure_does_not_hide_it() -> None:
    call = report("a", "call", ("failed", CALL))
    result = judge(report("a", "setup", PASSED), call, died(qemu_result="lost", qemu_evidence="z"))
    assert (result.verdict, result.result, result.evidence) == ("failed", "failed", "t/x")


def test_workers_may_run_items_of_the_same_name_at_the_same_time() -> None:
    """Two suites outside pytest's root directory may have the same node id."""
    account = Account()
    for worker in ("gw0", "gw1"):
        account.add(report("a", "setup", PASSED, worker=worker))
    account.add(report("a", "call", FAILED, worker="gw1"))
    account.add(report("a", "teardown", PASSED, worker="gw0"))
    account.add(report("a", "", DIED, worker="gw1"))
    assert [(i.worker, i.verdict) for i in account.items] == [("gw0", "passed"), ("gw1", "failed")]


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_bad_unless_it_was_to_be(verdict: Verdict) -> None:
    assert verdict.bad is (verdict in ("failed", "lost", "error"))
    assert verdict.ran is (verdict != "skipped")


ITEMS = [str(number) for number in range(30)]


class Session(RuleBasedStateMachine):
    """Workers report their items in any order; any of them may die at any time."""

    started = Bundle("started")
    called = Bundle("called")

    def __init__(self) -> None:
        super().__init__()
        self.account = Account()
        self.account.expected = ITEMS
        self.waiting = list(ITEMS)
        self.verdicts: dict[str, Verdict] = {}

    def _end(self, nodeid: str, when: str, how: How | str, verdict: Verdict) -> None:
        result = self.account.add(report(nodeid, when, how))
        assert result is not None
        assert (result.nodeid, result.verdict) == (nodeid, verdict)
        self.verdicts[nodeid] = verdict

    @precondition(lambda self: self.waiting)
    @rule(target=started)
    def start(self) -> str:
        nodeid = self.waiting.pop()
        assert self.account.add(report(nodeid, "setup", PASSED)) is None
        return nodeid

    @rule(
        target=called,
        nodeid=consumes(started),
        how=st.sampled_from([PASSED, FAILED, SKIPPED, SKIPPED]),
    )
    def call(self, nodeid: str, how: How) -> tuple[str, Verdict]:
        assert self.account.add(report(nodeid, "call", how)) is None
        return nodeid, Verdict(how[0])

    @rule(item=consumes(called))
    def finish(self, item: tuple[str, Verdict]) -> None:
        self._end(item[0], "teardown", PASSED, item[1])

    @rule(nodeid=consumes(started))
    def die(self, nodeid: str) -> None:
        self._end(nodeid, "", DIED, Verdict.LOST)

    @invariant()
    def nothing_is_forgotten_or_made_up(self) -> None:
        assert self.account.not_run() == [n for n in ITEMS if n not in self.verdicts]
        assert {i.nodeid: i.verdict for i in self.account.items} == self.verdicts
        assert count(self.account.items).total() == len(self.verdicts)
        tested = [verdict for verdict in self.verdicts.values() if verdict != "skipped"]
        assert bool(nothing_ran(self.account.items)) is not bool(tested)


TestSession = Session.TestCase
TestSession.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def item(verdict: Verdict, because: str = "", **coordinates: str) -> ItemResult:
    cell = "-".join(coordinates.values())
    return ItemResult(
        nodeid="a", verdict=verdict, seconds=0, because=because, cell=cell, coordinates=coordinates
    )


def test_a_run_in_which_nothing_ran_says_why() -> None:
    assert nothing_ran([]) == "nothing ran: no test was selected"
    skipped = [item(Verdict.SKIPPED, because) for because in ("d", "b", "a", "b", "c")]
    assert nothing_ran(skipped) == "nothing ran: all 5 tests were skipped: a; b; c"
    for verdict in set(Verdict) - {Verdict.SKIPPED}:
        assert nothing_ran([*skipped, item(verdict)]) == ""


def test_items_are_counted_by_verdict_and_put_together_by_pair() -> None:
    items = [
        item(Verdict.PASSED, source="b", destination="a"),
        item(Verdict.FAILED, source="a", destination="b"),
        item(Verdict.PASSED),
        item(Verdict.PASSED, source="b", destination="a"),
    ]
    assert count(items) == {Verdict.PASSED: 3, Verdict.FAILED: 1}
    assert list(by_pair(items).items()) == [
        (("b", "a"), [items[0], items[3]]),
        (("a", "b"), [items[1]]),
    ]
