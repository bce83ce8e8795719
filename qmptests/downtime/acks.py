"""Switchover acks: who asked for one, and whether it was given.

The new mechanism (11.1 and its machine types): the source asks for each device at setup, and again
when a REINIT makes void what was sent; each device's ack comes back by itself, in the order in
which their initial data went out. The legacy one (8.1 to 11.0): the destination counts its devices,
and sends one ack when all have approved. They are told apart by what was traced.
"""

from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.precopy_data import LIMIT, Ack
from qmptests.downtime.sources import DESTINATION, Evidence

CAPABILITY = "switchover-ack"
NEW, LEGACY = "new", "legacy"

SOURCE_TRACED = (
    "source_return_path_thread_switchover_acked",
    "vfio_migration_set_device_state",
    "vfio_query_precopy_size_request_switchover_ack",
    "vfio_send_init_data_flag",
)
#: At the destination; the first three are the legacy mechanism's.
_REQUESTED = "migration_request_switchover_ack_legacy"
_ASKED = (_REQUESTED, "loadvm_state_switchover_ack_needed")
_APPROVED_LEGACY = "loadvm_approve_switchover_legacy"
_APPROVED = "loadvm_approve_switchover"
DESTINATION_TRACED = (*_ASKED, _APPROVED_LEGACY, _APPROVED)
_RETURN_PATH = ("loadvm_process_command", "migrate_send_rp_message")
#: MIG_RP_MSG_SWITCHOVER_ACK on the return path (QEMU, migration/migration.h).
RP_SWITCHOVER_ACK = 7


def mechanism(evidence: Evidence) -> str | None:
    """Which one was in use, "" if none, None if that can't be told.

    Where no approval tells, the acks do: a legacy destination asks its devices, and sends its one
    ack even if it has none to ask; a new one whose devices owe no ack sends none.
    """
    outcome = evidence.outcome
    on = None if outcome is None else outcome.plan.capabilities.get(CAPABILITY, False)
    opened = acked = False
    if DESTINATION in evidence.sides:
        names = (*DESTINATION_TRACED, *_RETURN_PATH)
        for moment in evidence.moments(DESTINATION, Witness.TRACE, names):
            if moment.name in (*_ASKED, _APPROVED_LEGACY):
                return LEGACY
            args = moment.args
            if moment.name == _APPROVED:
                return NEW if "approver" in args else LEGACY
            opened = opened or args.get("com") == "OPEN_RETURN_PATH"
            acked = acked or args.get("type") == RP_SWITCHOVER_ACK
    if on is False:
        return ""
    sides = [] if outcome is None else outcome.destinations
    enabled = {name for side in sides for name in side.trace.enabled}
    if not opened or enabled.isdisjoint(_ASKED) or not enabled.issuperset(_RETURN_PATH):
        return None
    return LEGACY if acked else NEW


class Acks:
    """Follows the acks. `kind`: what `mechanism` said."""

    def __init__(self, kind: str | None) -> None:
        self.kind = kind
        #: All but the oldest of very many.
        self.all: list[Ack] = []
        self._open: list[Ack] = []
        self._setup: set[str] = set()
        #: Whether QEMU traces who sent, and who approved.
        self._traced = False

    def see(self, moment: Moment) -> None:
        """Take in one moment of `SOURCE_TRACED` or `DESTINATION_TRACED`."""
        if self.kind == "":
            return
        name, device, at = moment.name, moment.device, moment.at_us
        if name == "vfio_migration_set_device_state":
            if moment.args.get("state") == "PRE_COPY" and device not in self._setup:
                self._setup.add(device)
                self._ask(device, "setup", at)
        elif name == "vfio_query_precopy_size_request_switchover_ack":
            self._ask(device, "reinit", at)
        elif name == "vfio_send_init_data_flag":
            self._stamp(device, "sent_us", at)
        elif name == "source_return_path_thread_switchover_acked":
            self._given(at)
        elif name == _REQUESTED:
            self._traced = True
        elif name in (_APPROVED, _APPROVED_LEGACY):
            self._stamp(str(moment.args.get("approver", "")), "approved_us", at)

    def drained(self, device: str, at: int) -> None:
        """The device was read and has no initial data left: QEMU tells the destination so.

        For those that don't trace it (10.0); others are believed.
        """
        if self.kind == LEGACY and not self._traced:
            self._stamp(device, "sent_us", at)

    def missing(self) -> tuple[str, ...]:
        """The devices without which switchover may not happen.

        With the legacy mechanism those that have not approved; all, when its one ack is on its way.
        """
        waiting = [ack for ack in self._open if self.kind != LEGACY or ack.approved_us is None]
        return tuple(dict.fromkeys(ack.device for ack in waiting or self._open))

    def _ask(self, device: str, why: str, at: int) -> None:
        ack = Ack(device, why, at)
        self.all.append(ack)
        del self.all[:-LIMIT]
        self._open.append(ack)

    def _stamp(self, device: str, field: str, at: int) -> None:
        """On the device's oldest ack to which this has not happened.

        "": an approval of nobody known. They come in the order in which the source sent.
        """
        found = [ack for ack in self.all if getattr(ack, field) is None]
        if device:
            found = [ack for ack in found if ack.device == device]
        elif len(self._setup) > 1:
            found = self._in_order_sent(found)
        if found:
            setattr(found[0], field, at)

    @staticmethod
    def _in_order_sent(acks: list[Ack]) -> list[Ack]:
        sent = [ack for ack in acks if ack.sent_us is not None]
        return sorted(sent, key=lambda ack: ack.sent_us or 0)

    def _given(self, at: int) -> None:
        """One comes for all, or one by one in the order in which they were sent."""
        legacy = self.kind == LEGACY
        for ack in list(self._open) if legacy else self._in_order_sent(self._open)[:1]:
            ack.given_us = at
            self._open.remove(ack)
