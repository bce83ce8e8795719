"""The downtime that the guest saw: the gap in its reports."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from qmptests.downtime.clocks import Offset
from qmptests.downtime.instants import attempt
from qmptests.downtime.moments import Witness
from qmptests.downtime.sources import DESTINATION, SOURCE, Evidence
from qmptests.guests.dirtier import DirtierParameters
from qmptests.units import parse_size

#: So many of the guest's last intervals on the source tell how regularly it reports.
INTERVALS = 10


class Report(NamedTuple):
    """When the guest's counter was read from the serial port, in microseconds."""

    at_us: int
    counter: int


class Gap(NamedTuple):
    """In microseconds; None if it could not be told, and then why."""

    us: int | None = None
    uncertainty_us: int | None = None
    problem: str = ""


def measure(evidence: Evidence, offset: Offset) -> Gap:
    """The guest's downtime in an attempt, and how regularly it reported before."""
    source = _reports(evidence, SOURCE)
    destination = _reports(evidence, DESTINATION, offset.destination_us)
    if not source and not destination:
        return Gap(problem="the guest does not report, so its downtime is not known")
    if not source or not destination:
        role = DESTINATION if source else SOURCE
        return Gap(problem=f"the guest did not report on the {role}")
    interval_us = _interval_us(evidence)
    first = destination[0]
    since, until = attempt(evidence)
    before = [
        report
        for report in source
        if since <= report.at_us < (until or report.at_us + 1) and report.counter < first.counter
    ]
    if not before:
        return Gap(problem="the guest's counter does not go on where it was on the source")
    us, uncertainty_us = gap(before[-INTERVALS - 1 :], first, interval_us)
    if uncertainty_us is None or offset.uncertainty_us is None:
        return Gap(us)
    return Gap(us, uncertainty_us + offset.uncertainty_us)


def gap(before: Sequence[Report], first: Report, interval_us: int) -> tuple[int, int | None]:
    """By how much `first` came later after the last one before than the guest's time has passed.

    And by how much any came late or early before: on a busy host reports are read late, and a guest
    that does not get to run loses time of its own. Not known from less than two of them.
    """

    def late(one: Report, other: Report) -> int:
        return other.at_us - one.at_us - (other.counter - one.counter) * interval_us

    spread = max((abs(late(*pair)) for pair in pairwise(before)), default=None)
    return late(before[-1], first), spread


def _interval_us(evidence: Evidence) -> int:
    definition = {} if evidence.outcome is None else evidence.outcome.plan.definition
    ms = definition.get("guest", {}).get("report_interval", DirtierParameters().report_interval)
    return parse_size(str(ms)) * 1000  # a definition's numbers can be text, as `length = "16M"` is


def _reports(evidence: Evidence, role: str, offset_us: int = 0) -> list[Report]:
    if role not in evidence.sides:
        return []
    said = evidence.moments(role, Witness.GUEST, ("reported",))
    return [Report(moment.at_us - offset_us, moment.number("counter")) for moment in said]
