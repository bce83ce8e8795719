"""From the phases of each item to its verdict. Pure: knows neither pytest nor the terminal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qmptests.matrix.expression import AXES
from qmptests.matrix.results import ItemResult, Verdict
from qmptests.outcome.record import NO_FAULT_OF_QEMU


@dataclass(frozen=True, kw_only=True)
class PhaseReport:
    """One phase of an item: `when` is setup, call or teardown; "" if its process died.

    `outcome`: passed, failed or skipped; `expected`: "skipped" since it failed as the test's own
    mark `xfail` says; `properties` as fixtures.verdicts attaches them;
    `because`: the failure or the skip in one line.
    """

    nodeid: str
    when: str
    outcome: str
    expected: bool = False
    seconds: float = 0.0
    properties: Mapping[str, str] = field(default_factory=dict)
    because: str = ""
    worker: str = ""


class Account:
    """All items of a session. `expected`: node ids of those that are to run."""

    def __init__(self) -> None:
        self.items: list[ItemResult] = []
        self.expected: list[str] = []
        #: By worker, too: two suites outside pytest's root directory may have the same node id.
        self._open: dict[tuple[str, str], list[PhaseReport]] = {}

    def add(self, report: PhaseReport) -> ItemResult | None:
        """Take a report; the item's result if that was its last."""
        key = report.worker, report.nodeid
        phases = self._open.setdefault(key, [])
        phases.append(report)
        if report.when in ("setup", "call"):
            return None
        del self._open[key]
        result = _judge(phases)
        self.items.append(result)
        return result

    def not_run(self) -> list[str]:
        """Node ids of the items that were to run and did not come to an end."""
        done = {item.nodeid for item in self.items}
        return [nodeid for nodeid in self.expected if nodeid not in done]


def _judge(phases: list[PhaseReport]) -> ItemResult:
    # What went wrong first tells; else what was not simply passed.
    judged = [(_verdict(phase), phase) for phase in phases]
    telling_ones = [(v, phase) for v, phase in judged if v.bad]
    telling_ones += [(v, phase) for v, phase in judged if v is not Verdict.PASSED]
    verdict, telling = next(iter(telling_ones), judged[-1])
    known: dict[str, str] = {}
    for phase in phases:
        # What a dead process's result would be says nothing where it had failed before.
        if phase.when or verdict is Verdict.LOST:
            known |= phase.properties
    downtime = known.get("qemu_downtime_ms")
    return ItemResult(
        nodeid=telling.nodeid,
        verdict=verdict,
        seconds=round(sum(phase.seconds for phase in phases), 4),
        cell=known.get("qemu_cell", ""),
        coordinates={a: known[f"qemu_{a}"] for a in AXES if f"qemu_{a}" in known},
        result=known.get("qemu_result", ""),
        because=_because(telling),
        issue=known.get("qemu_issue", ""),
        evidence=known.get("qemu_evidence", ""),
        not_checked=known.get("qemu_not_checked", ""),
        downtime_ms=None if downtime is None else int(downtime),
        worker=telling.worker,
    )


def _because(phase: PhaseReport) -> str:
    """QEMU's reason where there is one: the assertion that failed says less."""
    of_qemu = phase.when in ("call", "") and phase.outcome != "passed"
    return (of_qemu and phase.properties.get("qemu_because")) or phase.because


def _verdict(phase: PhaseReport) -> Verdict:
    if phase.outcome == "passed":
        return Verdict.PASSED
    if phase.outcome == "skipped":
        known = phase.expected or "qemu_issue" in phase.properties
        return Verdict.EXPECTED if known else Verdict.SKIPPED
    if not phase.when:
        return Verdict.LOST
    if phase.when != "call" or phase.properties.get("qemu_result") in NO_FAULT_OF_QEMU:
        return Verdict.ERROR
    return Verdict.FAILED


def nothing_ran(items: Iterable[ItemResult]) -> str:
    """A line if no item tested anything, for a run must not be green then; else ""."""
    seen = list(items)
    if any(item.verdict.ran for item in seen):
        return ""
    if not seen:
        return "nothing ran: no test was selected"
    reasons = "; ".join(sorted({item.because for item in seen})[:3])
    return f"nothing ran: all {len(seen)} tests were skipped: {reasons}"
