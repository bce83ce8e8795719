"""When something happened on one side of an attempt: for those who need a few instants only."""

from collections.abc import Collection

from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.sources import QMP_LOG, SOURCE, Evidence


class Side:
    """A side's trace events of these names and its QMP events, `offset_us` taken from their times.

    A side without logs has none. The source's are those of the attempt, a destination has but one.
    """

    def __init__(
        self, evidence: Evidence, role: str, traced: Collection[str], offset_us: int = 0
    ) -> None:
        self.name = evidence.sides.get(role, "")
        self.has_qmp = bool(self.name) and (evidence.folder / f"{self.name}{QMP_LOG}").exists()
        self._offset_us = offset_us
        self._since, self._until = attempt(evidence) if role == SOURCE else (0, None)
        self._moments: list[Moment] = []
        if self.name:
            self._moments += evidence.moments(role, Witness.TRACE, traced)
            self._moments += evidence.moments(role, Witness.QMP, ("MIGRATION", "STOP", "RESUME"))

    def moments(self, name: str, text: str = "", *, earlier: bool = False) -> list[Moment]:
        """Those of this name whose text begins so; `earlier`: of earlier attempts as well."""
        return [
            moment
            for moment in self._moments
            if moment.name == name
            and moment.text.strip().startswith(text)
            and (earlier or self._since <= moment.at_us)
            and (self._until is None or moment.at_us < self._until)
        ]

    def times(self, name: str, text: str = "", *, earlier: bool = False) -> list[int]:
        """When they were."""
        found = self.moments(name, text, earlier=earlier)
        return [moment.at_us - self._offset_us for moment in found]

    def first(self, name: str, text: str = "") -> int | None:
        """When the first of them was."""
        return min(self.times(name, text), default=None)

    def last(self, name: str, text: str = "") -> int | None:
        """When the last of them was."""
        return max(self.times(name, text), default=None)

    def checkpoint(self, name: str) -> int | None:
        """When that checkpoint of QEMU's was last passed."""
        return self.last("vmstate_downtime_checkpoint", name)

    def state(self, name: str) -> int | None:
        """When the migration last came to this state."""
        return self.last("migrate_set_state", f"new state {name}")


def attempt(evidence: Evidence) -> tuple[int, int | None]:
    """From where to where the source's logs are of this attempt, in microseconds."""
    if evidence.outcome is None or evidence.attempt is None:
        return 0, None
    started = [a.started for a in evidence.outcome.attempts]
    began = evidence.attempt.started
    until = min((at for at in started if at > began), default=None)
    since = round(began * 1e6) if began > min(started) else 0
    return since, None if until is None else round(until * 1e6)
