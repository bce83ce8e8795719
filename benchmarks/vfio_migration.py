"""A migration with emulated devices, measured: for the benchmarks that compare two of them."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import spread
from qmptests.builds import Build
from qmptests.migration import Plan, migrate
from qmptests.outcome.record import Result
from qmptests.vfio import start
from qmptests.vfio.calls_read import CallLog
from qmptests.vm import devices, load

#: So that QEMU switches over whatever bandwidth it has measured so far.
PARAMETERS = {"avail-switchover-bandwidth": 10_000_000_000, "downtime-limit": 10_000}
CONSTANT = str(Path(__file__).with_name("constant_supervisor.py"))


class Measured(NamedTuple):
    """Seconds as QEMU has them, and of processor time of both supervisors together.

    `cpu_downtime_s`: from STOP_COPY to the next state on the source and from RESUMING to RUNNING on
    the destination, which is no less than what falls into the downtime.
    """

    total_s: float
    downtime_s: float
    cpu_downtime_s: float
    cpu_s: float


@contextlib.contextmanager
def constant_data() -> Iterator[None]:
    """Meanwhile devices have constant data, which is not checked."""
    real = start.__file__
    start.__file__ = CONSTANT
    try:
        yield
    finally:
        start.__file__ = real


def run(
    source: Build,
    destination: Build,
    profiles: Sequence[str],
    folder: Path,
    *,
    checked: bool = True,
) -> Measured:
    """Migrate a VM without a guest and with these devices; leaves nothing in `folder`."""
    plan = Plan(
        source,
        destination,
        load("none"),
        devices=tuple(devices.load(profile) for profile in profiles),
        capabilities={"return-path": True},
        parameters=PARAMETERS,
    )
    with contextlib.nullcontext() if checked else constant_data():
        outcome = migrate(plan, folder)
    if outcome.record.result != (Result.COMPLETED if checked else Result.DEVICE_DATA_WRONG):
        raise SystemExit(f"not as it should be: {outcome}")
    times = outcome.record.attempts[-1].times
    sides = outcome.source.record, outcome.destination.record
    logs = [CallLog(outcome.folder / f"{side.name}.vfio.jsonl") for side in sides]
    cpu = _cpu_after(logs[0], "stop-copy") + _cpu_after(logs[1], "resuming")
    shutil.rmtree(outcome.folder)
    assert times.total_ms is not None
    assert times.downtime_ms is not None
    return Measured(
        times.total_ms / 1e3,
        times.downtime_ms / 1e3,
        cpu,
        sum(side.supervisor_cpu_s for side in sides),
    )


def _cpu_after(log: CallLog, state: str) -> float:
    """Processor seconds from the first device's entering `state` to the last one's leaving it."""
    entered: list[int] = []
    left: list[int] = []
    inside: set[str] = set()
    for call in log.calls("set-state"):
        assert call.cpu_us is not None
        if call.with_["state"] == state:
            entered.append(call.cpu_us)
            inside.add(call.device)
        elif call.device in inside:
            left.append(call.cpu_us)
            inside.discard(call.device)
    return (left[-1] - entered[0]) / 1e6


def lines(name: str, runs: Sequence[Measured], size: int) -> str:
    """What `size` bytes of stop-copy took, in four lines."""
    downtimes = sorted(run.downtime_s for run in runs)
    speed = size / downtimes[len(downtimes) // 2] / 1e9
    cores = [run.cpu_downtime_s / run.downtime_s for run in runs]
    return "\n".join(
        (
            f"{spread.line(f'{name}: downtime', downtimes)}, {speed:.2f} GB/s",
            spread.line(f"{name}: total", [run.total_s for run in runs]),
            f"{spread.line('  supervisors in downtime', [run.cpu_downtime_s for run in runs])}"
            f", {sorted(cores)[len(cores) // 2]:.2f} cores",
            spread.line("  supervisors in all", [run.cpu_s for run in runs]),
        )
    )
