"""The verdict: QEMU's word alone is not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import EnvironmentFailure
from qmptests.hosts import ExitStatus, ProcessDied, WaitTimeout
from qmptests.migration import Phase
from qmptests.migration.sanitizers import Report
from qmptests.migration.verdict import (
    Observed,
    Remains,
    exit_code,
    of_end,
    of_error,
    of_lost,
    of_remains,
)
from qmptests.outcome import Result
from qmptests.qmp import CommandError

GOOD = {"source_runstate": "postmigrate", "destination_runstate": "running", "memory_right": True}


@pytest.mark.parametrize(
    ("changed", "result"),
    [
        ({}, Result.COMPLETED),
        ({"memory_right": None}, Result.COMPLETED),
        ({"memory_right": False}, Result.MEMORY_WRONG),
        ({"source_runstate": "running"}, Result.BOTH_RUNNING),
        ({"destination_runstate": "paused"}, Result.NOT_RUNNING),
        ({"destination_runstate": ""}, Result.NOT_RUNNING),
        ({"source_runstate": "running", "destination_runstate": "paused"}, Result.NOT_RUNNING),
    ],
)
def test_completed_needs_all_four(changed: dict[str, object], result: Result) -> None:
    seen = Observed(status="completed", **{**GOOD, **changed})  # type: ignore[arg-type]
    assert of_end(seen)[0] is result


@pytest.mark.parametrize(
    ("alive", "result"),
    [(True, Result.FAILED_DESTINATION_ALIVE), (False, Result.FAILED_DESTINATION_EXITED)],
)
def test_a_failure_keeps_qemus_reason(alive: bool, result: Result) -> None:
    seen = Observed(status="failed", error="Channel error", destination_alive=alive)
    assert of_end(seen) == (result, "Channel error")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("source", ["running", "finish-migrate"])
def test_a_guest_that_arrived_although_its_source_gave_up_runs_twice(
    status: str, source: str
) -> None:
    seen = Observed(status=status, source_runstate=source, destination_runstate="running")
    result, reason = of_end(seen)
    assert result is Result.BOTH_RUNNING
    assert status in reason
    assert of_end(Observed(status=status, destination_runstate="paused"))[0] not in (
        Result.BOTH_RUNNING,
        Result.COMPLETED,
    )


@given(
    st.sampled_from(["completed", "failed", "cancelled"]),
    st.sampled_from(["running", "paused", "postmigrate", ""]),
    st.sampled_from(["running", "paused", "inmigrate", ""]),
    st.sampled_from([None, True, False]),
)
def test_completed_means_all_of_it(
    status: str, source: str, destination: str, right: bool | None
) -> None:
    result, reason = of_end(
        Observed(
            status=status,
            source_runstate=source,
            destination_runstate=destination,
            memory_right=right,
            memory_problem="wrong",
        )
    )
    whole = (
        status == "completed"
        and destination == "running"
        and source != "running"
        and right is not False
    )
    assert (result is Result.COMPLETED) == whole
    assert bool(reason) != whole


@pytest.mark.parametrize(
    ("error", "phase", "result"),
    [
        (ProcessDied("source", "was killed", "x", []), None, Result.START_FAILED),
        (ProcessDied("source", "was killed", "x", []), Phase.ACTIVE, Result.SOURCE_DIED),
        (ProcessDied("destination-2", "exited", "x", []), Phase.READY, Result.DESTINATION_DIED),
        (WaitTimeout("x", 1, []), Phase.ACTIVE, Result.TIMED_OUT),
        (CommandError("source", "migrate", "GenericError", "no"), Phase.READY, Result.QMP_ERROR),
        (EnvironmentFailure("disk full"), Phase.ACTIVE, Result.ENVIRONMENT),
        (KeyboardInterrupt(), Phase.ACTIVE, Result.INTERRUPTED),
    ],
)
def test_an_exception_has_a_result(
    error: BaseException, phase: Phase | None, result: Result
) -> None:
    assert of_error(error, phase) is result


SEGV, KILLED, CORE = ExitStatus(-11), ExitStatus(-9), ExitStatus(-3, core_dumped=True)
REPORT = Report("AddressSanitizer: stack-overflow", ["..."])


@pytest.mark.parametrize(
    ("end", "wrapped", "crashed"),
    [
        (None, False, False),
        (ExitStatus(0), False, False),
        (ExitStatus(1), False, False),
        (KILLED, False, False),
        (SEGV, False, True),
        (CORE, False, True),
        (ExitStatus(139), False, False),
        (ExitStatus(139), True, True),
        (ExitStatus(137), True, False),
    ],
)
def test_a_crash_is_a_fault_and_not_just_any_end(
    end: ExitStatus | None, wrapped: bool, crashed: bool
) -> None:
    assert Remains("source", end, wrapped=wrapped).crashed is crashed


@given(st.sampled_from(Result), st.sampled_from(["", "because"]))
def test_what_is_left_outweighs_the_rest(result: Result, error: str) -> None:
    good = [Remains("source", ExitStatus(0)), Remains("destination", KILLED, killed=True)]
    crashed = Remains("source", SEGV, core="core dump: source.core")
    reported = Remains("destination", SEGV, report=REPORT)
    assert of_remains(result, error, good) == (result, error)
    found, why = of_remains(result, error, [crashed, good[1]])
    assert found is Result.CRASHED
    assert why.startswith("source was killed by SIGSEGV")
    assert error in why
    assert why.endswith("core dump: source.core")
    found, why = of_remains(result, error, [crashed, reported])
    assert found is Result.SANITIZER_REPORT
    assert why.startswith("destination: AddressSanitizer: stack-overflow; source was killed by")


def test_a_reason_that_names_the_crash_is_not_repeated() -> None:
    error = "source was killed by SIGSEGV while waiting for x"
    assert of_remains(Result.SOURCE_DIED, error, [Remains("source", SEGV)]) == (
        Result.CRASHED,
        error,
    )


def test_exit_status_is_0_only_for_what_was_expected() -> None:
    for result in Result:
        assert exit_code(result, result, "") == 0
    assert exit_code(Result.TIMED_OUT, Result.COMPLETED, Phase.ACTIVE) == 1
    assert exit_code(Result.QMP_ERROR, Result.COMPLETED, Phase.STARTED) == 2
    assert exit_code(Result.QMP_ERROR, Result.COMPLETED, Phase.LISTENING) == 1
    assert exit_code(Result.ENVIRONMENT, Result.COMPLETED, "") == 3
    assert exit_code(Result.EMULATION_FAILED, Result.COMPLETED, Phase.ACTIVE) == 3


def test_who_was_lost_at_the_end_stands_before_what_was_seen() -> None:
    lost = ["the launcher died", "the launcher died"]
    assert of_lost(Result.TIMED_OUT, "too late", lost) == (
        Result.ENVIRONMENT,
        "the launcher died; too late",
    )
    assert of_lost(Result.ENVIRONMENT, "the launcher died", lost) == (
        Result.ENVIRONMENT,
        "the launcher died",
    )
    assert of_lost(Result.INTERRUPTED, "interrupted", lost) == (Result.INTERRUPTED, "interrupted")
    assert of_lost(Result.COMPLETED, "", []) == (Result.COMPLETED, "")


@pytest.mark.parametrize(
    ("end", "how", "by_itself"),
    [
        (None, {"asked": False}, False),
        (ExitStatus(0), {}, False),
        (ExitStatus(0), {"asked": False}, True),
        (ExitStatus(1), {}, True),
        (ExitStatus(0), {"signalled": True}, True),
        (KILLED, {}, True),
        (KILLED, {"killed": True}, False),
        (KILLED, {"killed": True, "signalled": True}, True),
    ],
)
def test_only_who_quits_when_told_to_has_not_ended_by_itself(
    end: ExitStatus | None, how: dict[str, bool], by_itself: bool
) -> None:
    side = Remains("source", end, **how)  # type: ignore[arg-type]
    assert side.ended_by_itself is by_itself


@given(st.sampled_from(Result), st.integers(0, 3))
def test_who_must_outlive_the_migration_does(result: Result, dead: int) -> None:
    ends = [
        Remains(name, ExitStatus(1) if n == dead else ExitStatus(0), words="oh")
        for n, name in enumerate(("source", "destination", "destination-2"))
    ]
    lives = {
        0: ("completed", "cancelled", "qmp-error", *(r for r in Result if r.startswith("failed"))),
        2: ("completed",),
    }.get(dead, ())
    found, why = of_remains(result, "", ends)
    died = {0: Result.SOURCE_DIED, 2: Result.DESTINATION_DIED}
    assert found is (died[dead] if result in lives else result)
    assert (
        f"the {ends[dead % 3].name} exited with status 1 when it was told to quit: oh" in why
    ) is (result in lives)
