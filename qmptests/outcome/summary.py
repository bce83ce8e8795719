"""What happened, in words and figures, for a terminal or a test report."""

from qmptests.outcome import unchecked
from qmptests.outcome.outcome import Outcome
from qmptests.outcome.record import OutcomeRecord
from qmptests.units import format_size


def lines(outcome: Outcome) -> list[str]:
    """A dozen lines at the most, each with a label in its first twelve columns."""
    record = outcome.record
    out = []
    for side in (record.source, record.destinations[-1] if record.destinations else None):
        if side is not None:
            odd = side.exit is not None and (side.exit.returncode != 0 or not side.exit.asked)
            end = f"; {side.exit.text}" if side.exit and odd else ""
            state = f", then {side.runstate}" if side.runstate else ""
            name = side.name.partition("-")[0]
            out.append(f"{name:<12} {side.build.name} ({side.build.spec}){state}{end}")
    plan = record.plan
    settings = [k for k, on in plan.capabilities.items() if on]
    settings += [f"{k}={v}" for k, v in plan.parameters.items()]
    out.append(
        f"{'migration':<12} {plan.machine}, {plan.accelerator}, over {plan.transport}"
        + (f", {', '.join(settings)}" if settings else "")
    )
    for number, attempt in enumerate(record.attempts, 1):
        times = attempt.times
        figures = [
            f"{name} {value} ms"
            for name, value in (
                ("total", times.total_ms),
                ("downtime", times.downtime_ms),
                ("setup", times.setup_ms),
            )
            if value is not None
        ]
        which = f"attempt {number}" if len(record.attempts) > 1 else "QEMU says"
        out.append(f"{which:<12} {', '.join([attempt.status, *figures])}")
    out += _guest_lines(outcome)
    out += _device_lines(record)
    if record.source_ran_on is not None:
        ran = "went on" if record.source_ran_on else "did NOT go on"
        out.append(f"{'guest':<12} {ran} running on the source")
    if record.perturbed:
        out.append(f"{'note':<12} flooding trace events were on: the times are perturbed")
    out += [f"{'note':<12} evidence incomplete: {p}" for p in record.evidence_problems]
    expected = "" if outcome.as_expected else f" (expected: {plan.expected})"
    out.append(f"{'result':<12} {unchecked.line(record)}{expected}")
    if record.error:
        out.append(f"{'because':<12} {record.error}")
    out += [f"  | {line}" for line in record.error_tail]
    out.append(f"{'evidence':<12} {outcome.folder} (reproduce.sh repeats it)")
    return out


def _device_lines(record: OutcomeRecord) -> list[str]:
    """What each emulated device sent, and what of it arrived."""
    if record.source is None:
        return []
    there = {d.name: d for side in record.destinations[-1:] for d in side.devices}
    out = []
    for device in record.source.devices:
        sent = sum(chunk.bytes for chunk in device.sent)
        arrival = there[device.name].arrival if device.name in there else None
        came = "nothing arrived" if sent and arrival is None else ""
        if arrival is not None:
            right = f"WRONG: {arrival.problem}" if arrival.problem else "right"
            came = f"{format_size(arrival.received_bytes)} arrived, {right}"
        reinits = f", {device.reinits} REINIT" if device.reinits else ""
        words = [f"{device.name} ({device.profile}): {format_size(sent)} sent{reinits}", came]
        out.append(f"{'device':<12} {'; '.join(word for word in words if word)}")
    return out


def _guest_lines(outcome: Outcome) -> list[str]:
    record = outcome.record
    memory = record.memory
    if memory is None or record.source is None:
        return []
    where = "between passes" if memory.edge is None else f"edge at page {memory.edge}"
    verdict = "right" if memory.right else "WRONG"
    counters = [side.guest.counter for side in (record.source, record.destinations[-1])]
    counted, on = ("nothing" if counter is None else f"to {counter}" for counter in counters)
    return [
        f"{'guest':<12} counted {counted} on the source and {on} on the destination",
        f"{'memory':<12} {memory.pages} pages {verdict}, pass {memory.generation}, {where}",
    ]
