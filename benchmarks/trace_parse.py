"""Events per second and peak memory of the trace parser, on a log of a million lines.

    python benchmarks/trace_parse.py [LINES]

Each log format is written once, then read three times; the median is printed. `parse` makes a
typed event of each line, `count` is what `TraceLog` does while it follows a log, `select` reads
one rare event again, `args` parses the arguments of each event as well. Memory is the growth of
this process's peak over what it used before it read the first log.
"""

import functools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qmptests.trace.log import TraceLog
from qmptests.trace.parser import Event, read

EVENTS = (
    "migration_transferred_bytes qemu_file {n} multifd 0 RDMA 0",
    "vfio_state_pending  (vf0) stopcopy size {n}, precopy initial size 0, precopy dirty size 0, "
    "request switchover ack 0, exact 1, final 0",
    "vmstate_downtime_save type=non-iterable idstr=0000:00:1f.2/ich9_ahci instance_id=0 downtime=1",
    "memory_region_ops_write cpu 0 mr 0x55556a15b850 addr 0x70 value 0x8f size 1 name 'rtc-index'",
)
PREFIXES: dict[str, Callable[[int], str]] = {
    "without timestamps": lambda _: "",
    "timestamps of 7.2 and 10.0": lambda n: f"8131@{1795375187 + n // 300000}.{n % 1000000:06}:",
    "timestamps of 11.1": lambda n: f"2026-11-22T19:19:{n // 300000:02}.{n % 1000000:06}Z ",
}
RARE = "migrate_set_state"


def write(path: Path, prefix: Callable[[int], str], lines: int) -> None:
    """A log of all events in turn, with one rare event in its middle."""
    with path.open("w") as file:
        for n in range(lines - 1):
            file.write(f"{prefix(n)}{EVENTS[n % len(EVENTS)].format(n=n)}\n")
            if n == lines // 2:
                file.write(f"{prefix(n)}{RARE} new state active\n")


def seconds(work: Callable[[], object]) -> float:
    """Median of three."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak() -> int:
    """Peak resident memory of this process so far, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def parse(path: Path) -> int:
    return sum(1 for _ in read(path))


def count(path: Path) -> int:
    return TraceLog(path).volume.lines


def select(path: Path) -> int:
    return TraceLog(path, enabled=[RARE]).count(RARE, new_state="active")


def args(path: Path) -> int:
    return sum(len(entry.args) for entry in read(path) if isinstance(entry, Event))


def main() -> None:
    """Run and print."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.log"
        for name, prefix in PREFIXES.items():
            write(path, prefix, lines)
            for work in (parse, count, select, args):
                rate = lines / seconds(functools.partial(work, path))
                print(f"{name:28}{work.__name__:8}{rate:12,.0f} events/s")
    print(f"peak memory grew by {(peak() - before) / 1024:.1f} MiB over {lines:,} lines")


if __name__ == "__main__":
    main()
