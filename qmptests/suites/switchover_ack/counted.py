"""The number of acks that there have to be, and that all of them came before the switchover."""

from typing import TYPE_CHECKING

from qmptests.downtime.acks import CAPABILITY
from qmptests.suites.switchover_ack import observed
from qmptests.suites.switchover_ack.observed import LEGACY, NEW

if TYPE_CHECKING:
    from qmptests.outcome import Outcome

RETURN_PATH = "return-path"
CAPABILITIES = [RETURN_PATH, CAPABILITY]


def assert_acked(outcome: "Outcome", asked: int, *, reinits: int = 0) -> str:
    """That the acks are those of the mechanism that is observed, which is returned.

    `asked`: devices from which the source asks one, `reinits`: how often they void it after that.
    The legacy mechanism has one ack, for all of them together, and for none.
    """
    mechanism = observed.mechanism(outcome)
    assert mechanism in (LEGACY, NEW), "not reached: no mechanism can be told"
    acks = 1 if mechanism == LEGACY else asked + reinits
    approvals = asked if mechanism == LEGACY else acks
    assert observed.on_the_wire(outcome) == acks, outcome
    assert observed.arrived(outcome) == acks, outcome
    assert len(observed.approvals(outcome)) == approvals, outcome
    assert_before_the_decision(outcome)
    return mechanism


def assert_before_the_decision(outcome: "Outcome") -> None:
    """That the last ack was sent before the source's only decision to switch over.

    The source traces an ack that it got after it has taken it into account; that may be too late.
    """
    trace = outcome.destination.trace
    sent = trace.last("migrate_send_rp_message", type=observed.RP_SWITCHOVER_ACK)
    assert observed.decisions(outcome) == 1, outcome
    decided = outcome.source.trace.first(observed.DECIDED)
    assert decided
    assert decided.time_us is not None
    assert sent is None or (sent.time_us or 0) <= decided.time_us
