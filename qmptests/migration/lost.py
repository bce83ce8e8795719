"""The outcome of a migration whose own process died: written by another one, from the plan."""

import time
from pathlib import Path

import msgspec

from qmptests.migration import collect
from qmptests.migration.plan import Plan
from qmptests.outcome import folder, modes
from qmptests.outcome.record import OutcomeRecord, Result
from qmptests.redaction import Redaction

#: What became of the process, if nothing more is known.
DIED = "the process that ran it died"


def write(plan: Plan, output: Path, mode: int = modes.PRIVATE, error: str = DIED) -> Path:
    """Finish the folder `output` where it was begun, else begin it; returns its path.

    What the dead process had written by then stays as evidence. Raises InputError if there is a
    finished one, EnvironmentFailure where it can't be written.
    """
    partial = folder.resume(output, mode)
    plan_record = collect.plan_record(plan, plan.resolved_machine())
    redaction = Redaction()
    redaction.tree(msgspec.to_builtins(plan_record))
    problems = collect.hide_in_logs(partial, redaction)
    record = OutcomeRecord(
        qmptests=collect.own_version(),
        name=plan.name,
        cell=plan.cell,
        created=time.time(),
        host=collect.host_record(),
        plan=plan_record,
        result=Result.LOST,
        error=error,
        evidence_problems=problems,
        evidence=collect.files(partial),
    )
    return folder.finish(partial, collect.without_secrets(record, redaction), mode)
