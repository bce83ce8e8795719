"""What of a migration was not checked: it stands beside the result wherever that is told. Pure."""

import signal
from collections.abc import Iterator
from itertools import pairwise

from qmptests.outcome import effects
from qmptests.outcome.record import OutcomeRecord, Result

NO_EFFECT = "no effect seen"


def unchecked(record: OutcomeRecord) -> list[str]:
    """In words that follow a result and a semicolon; of a result that says nothing good, nothing.

    A result that was expected is good, too.
    """
    if record.result in (Result.COMPLETED, Result.CANCELLED):
        told = (_builds, _guest, _devices, _capabilities, _parameters, _ends, _evidence)
        return [text for part in told for text in part(record)]
    if record.result == record.plan.expected:
        return [*_guest(record), *_evidence(record)]
    return []


def line(record: OutcomeRecord) -> str:
    """`completed; guest and memory not checked`: the result, and what it does not say."""
    return "; ".join((record.result, *unchecked(record)))


def _builds(record: OutcomeRecord) -> Iterator[str]:
    if record.same_binary:
        yield "both builds are the same binary"


def _guest(record: OutcomeRecord) -> Iterator[str]:
    if record.result != Result.COMPLETED:
        if record.source_ran_on is False:
            yield "guest not seen to go on at the source"
    elif record.memory is None:
        yield "guest and memory not checked"


def _devices(record: OutcomeRecord) -> Iterator[str]:
    """Of an emulated device its data are compared; of any other, nothing."""
    if record.result != Result.COMPLETED:
        return
    definition = record.plan.definition
    plan = record.plan
    options = (*definition.get("args", ()), *plan.source_args, *plan.destination_args)
    added = [value for word, value in pairwise(options) if word in ("-device", "--device")]
    names = [text.partition(",")[0] for text in (*definition.get("devices", ()), *added)]
    names += [
        profile.get("name", "?") for profile in record.plan.devices if not profile.get("vfio")
    ]
    silent = [d.name for d in record.source.devices if not d.sent] if record.source else []
    names += [f"{name} (it sent nothing)" for name in silent]
    if names:
        yield f"device{'s' * (len(names) > 1)} {', '.join(dict.fromkeys(names))} not checked"


def _capabilities(record: OutcomeRecord) -> Iterator[str]:
    for name, seen in effects.effects(record).items():
        if not seen:
            yield f"{name}: {'not checked' if seen is None else NO_EFFECT}"


def _parameters(record: OutcomeRecord) -> Iterator[str]:
    """Of what is off."""
    for name in record.plan.parameters:
        capability = effects.capability_of(name)
        if capability and not record.plan.capabilities.get(capability):
            yield f"{name}: no effect without {capability}"


def _ends(record: OutcomeRecord) -> Iterator[str]:
    """Who had to be killed: nobody else can have, or the result would say so."""
    for side in (record.source, *record.destinations[-1:]):
        if side and side.exit and side.exit.asked and side.exit.returncode == -signal.SIGKILL:
            yield f"the {side.name} did not quit when it was told to, and was killed"


def _evidence(record: OutcomeRecord) -> Iterator[str]:
    """Files that lost something; what, stands in `evidence_problems`."""
    files = [problem.partition(":")[0] for problem in record.evidence_problems]
    if files:
        yield f"evidence incomplete: {', '.join(dict.fromkeys(files))}"
