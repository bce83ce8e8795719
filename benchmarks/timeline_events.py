"""Trace events put on the time line per second of processor time, and the memory that it takes.

    python -m benchmarks.timeline_events [--events 1000000] [--rounds 3] [--simpletrace PATH]

Two logs with timestamps, as 11.1 writes them, hold half of the events each; as several threads of
QEMU's write them, one in 50 is up to 0.1 ms late. Measured are reading, parsing, ordering, merging
and one look at each moment, in a process of its own; arguments are not parsed, which is done for
those that are asked for.

With `--simpletrace`, in pairs, as many of the same events are given to an analyzer that does
nothing by QEMU's own scripts/simpletrace.py, from binary files such as QEMU's "simple" backend
writes. That script needs scripts/tracetool beside it; both are in QEMU's source only, of which
`apt-get source --download-only qemu` with a `deb-src` line for Debian gets a tar file:

    tar -xf qemu_*.orig.tar.xz --wildcards '*/scripts/simpletrace.py' '*/scripts/tracetool'

The binary format is that of 8.1 to 11.1, "version 4".
"""

import argparse
import json
import random
import resource
import runpy
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from qmptests.downtime import sources
from qmptests.downtime.timeline import Timeline

SIDES = ("source", "destination")
#: How QEMU declares an event, how it logs it, and its arguments.
EVENTS: tuple[tuple[str, str, tuple[bytes | int, ...]], ...] = (
    (
        "migration_transferred_bytes(uint64_t qemu_file, uint64_t multifd, uint64_t rdma)",
        "migration_transferred_bytes qemu_file {n} multifd 0 RDMA 0",
        (0, 0, 0),
    ),
    (
        "vfio_state_pending(const char *name, uint64_t stopcopy, uint64_t init, uint64_t dirty, "
        "bool ack, bool exact, bool final)",
        "vfio_state_pending  (vf0) stopcopy size {n}, precopy initial size 0, precopy dirty size "
        "0, request switchover ack 0, exact 1, final 0",
        (b"vf0", 0, 0, 0, 0, 1, 0),
    ),
    (
        "vfio_save_iterate(const char *name, uint64_t init, uint64_t dirty)",
        "vfio_save_iterate  (vf0) precopy initial size 0 precopy dirty size {n}",
        (b"vf0", 0, 0),
    ),
    (
        "ram_save_page(const char *rbname, uint64_t offset, void *host)",
        "ram_save_page pc.ram: offset: 0x{n:x} host: 0x7f21a8000000",
        (b"pc.ram", 0, 0x7F21A8000000),
    ),
)
BEGAN_US = 1_795_409_302_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--simpletrace", type=Path)
    parser.add_argument("--child", choices=("timeline", "simpletrace"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options)))
        return
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            write_log(Path(folder, f"{side}.trace.log"), options.events // 2)
            write_binary(Path(folder, f"{side}.bin"), options.events // 2)
        Path(folder, "events").write_text("".join(f"{how}\n" for how in declarations()))
        whose = ["timeline", "simpletrace"] if options.simpletrace else ["timeline"]
        for _ in range(options.rounds):
            for name in whose:
                command = [sys.executable, "-m", "benchmarks.timeline_events", *sys.argv[1:]]
                command += ["--child", name, "--folder", folder]
                result = json.loads(subprocess.check_output(command))
                rate = result["events"] / result["cpu_s"]
                rates.setdefault(name, []).append(rate)
                print(
                    f"{name:12} {result['events']:,} events, {rate:9,.0f} a second; peak memory "
                    f"{result['peak_kib'] / 1024:.0f} MiB, of it {result['grown_kib'] / 1024:.1f} "
                    "MiB for this"
                )
    for name, found in rates.items():
        print(f"{name:12} median {statistics.median(found):,.0f} events a second")
    if options.simpletrace:
        pairs = zip(rates["timeline"], rates["simpletrace"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"{'ratio':12} median {ratio:.2f} times simpletrace.py")


def child(options: argparse.Namespace) -> dict[str, float]:
    before, start = peak_kib(), time.process_time()
    if options.child == "timeline":
        events = sum(map(bool, Timeline(sources.open(options.folder)).moments()))
    else:
        events = simpletrace(options.simpletrace, options.folder)
    taken = time.process_time() - start
    grown = peak_kib() - before
    return {"events": events, "cpu_s": taken, "peak_kib": peak_kib(), "grown_kib": grown}


def simpletrace(script: Path, folder: Path) -> int:
    """Count the events by QEMU's own script."""
    sys.path.insert(0, str(script.parent))
    theirs = runpy.run_path(str(script))
    counted = 0

    def count(*_args: object, **_more: object) -> None:
        nonlocal counted
        counted += 1

    analyzer = theirs["Analyzer2"]()
    analyzer.catchall = count
    for side in SIDES:
        theirs["process"](str(folder / "events"), str(folder / f"{side}.bin"), analyzer)
    return counted


def times(count: int) -> Iterator[int]:
    """Microseconds since the epoch: one event every 10, one in 50 late."""
    chance = random.Random(count)
    for n in range(count):
        late = chance.randrange(100) if chance.randrange(50) == 0 else 0
        yield BEGAN_US + 10 * n - late


def write_log(path: Path, count: int) -> None:
    stamps: dict[int, str] = {}
    with path.open("w") as file:
        for n, at in enumerate(times(count)):
            second, us = divmod(at, 1_000_000)
            stamp = stamps.get(second)
            if stamp is None:
                stamp = stamps[second] = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
            file.write(f"{stamp}.{us:06}Z {EVENTS[n % len(EVENTS)][1].format(n=n)}\n")


def declarations() -> list[str]:
    """What QEMU's trace-events-all says of them."""
    return [f'{declared} ""' for declared, _, _ in EVENTS]


def write_binary(path: Path, count: int) -> None:
    """A header; each event's number and name; then a record for each event.

    A record: a 1 (a name's has a 0), the event's number, nanoseconds, the length from that number
    on, the process, the arguments; a string has its length in front. Without padding.
    """
    with path.open("wb") as file:
        file.write(struct.pack("=QQQ", 2**64 - 1, 0xF2B177CB0AA429B4, 4))
        payloads = []
        for number, (declared, _, args) in enumerate(EVENTS):
            name = declared.partition("(")[0].encode()
            file.write(struct.pack("=QQL", 0, number, len(name)) + name)
            payloads.append(b"".join(map(packed, args)))
        for n, at in enumerate(times(count)):
            number = n % len(EVENTS)
            payload = payloads[number]
            file.write(struct.pack("=QQQII", 1, number, at * 1000, 24 + len(payload), 17242))
            file.write(payload)


def packed(arg: bytes | int) -> bytes:
    if isinstance(arg, bytes):
        return struct.pack("=L", len(arg)) + arg
    return struct.pack("=Q", arg)


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
