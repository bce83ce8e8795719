"""Is the breakdown of downtime right? 50 ms planted in one call of one device of four.

    python -m benchmarks.downtime_planting [--pairs 3] [--source ...] [--destination ...]

Interleaved pairs, without and with the planted delay: in one arc, one read, one write, each with
and without multifd and return-path. Printed: by how much the share of the call grew that was made
slow, by how much any other did at most, and what of the critical path belongs to nobody. Under
multifd devices send side by side, and which of them is the last to be done is chance: what they
send counts as one share.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import pair
from qmptests.builds import Build
from qmptests.downtime import breakdown, sources
from qmptests.downtime.critical import SEND
from qmptests.migration import Plan, Run, WhenHeld, migrate
from qmptests.vm import devices, load

PLANTED_MS = 50
SLOW = "vf1"
DEVICE = "idle,initial=64K,stop_copy=1M,watch_writes=on"
Key = tuple[str, str, str, str]
#: The rule for vf1, and the share of the critical path in which it must appear.
PLANTS: Mapping[str, tuple[str, Key]] = {
    "arc to STOP_COPY": (
        "set-state:stop-copy+{}+side=source",
        ("source", "stop", SLOW, ""),
    ),
    "read in STOP_COPY": (
        "read+{}+in=stop-copy+side=source",
        ("source", "save", SLOW, "read"),
    ),
    "write of its load": (
        "write+{}+after_bytes=512K+side=destination",
        ("destination", "load", SLOW, "write"),
    ),
    "arc to RUNNING_P2P": (
        "set-state:running-p2p+{}+side=destination",
        ("destination", "start", SLOW, ""),
    ),
}
WAYS: tuple[list[str], ...] = ([], ["multifd"], ["return-path"], ["return-path", "multifd"])


async def arrived(run: Run) -> None:
    """The guest goes on at the destination."""
    await run.destination.monitor.expect("RESUME", what="the guest to arrive", timeout=30)


def shares(
    source: Build, destination: Build, rule: str, way: list[str], folder: Path, number: int
) -> tuple[dict[Key, float], float, float]:
    """The shares of the critical path, the downtime, and what of it is nobody's; milliseconds."""
    one_way = "multifd" in way and "return-path" not in way
    slow = f"{DEVICE},when={rule.format(f'delay={PLANTED_MS}ms')}" if rule else DEVICE
    if one_way:  # or QEMU loses data: docs/findings/vfio-multifd-one-way.md
        slow += ",when=set-state:stop+hold+side=source"
    profiles = [devices.load(slow if n == int(SLOW[2:]) else DEVICE) for n in range(4)]
    plan = Plan(
        source=source,
        destination=destination,
        definition=load("dirtier"),
        devices=tuple(profiles),
        capabilities=dict.fromkeys(way, True),
        transport="tcp",  # with the smaller buffers of UNIX sockets multifd may deadlock
    )
    observers = [WhenHeld("source", arrived)] if one_way else []
    outcome = migrate(plan, folder / f"{number}-{bool(rule)}", observers)
    assert outcome.completed, outcome
    found = breakdown.of(sources.open(outcome.folder))
    assert found is not None
    parts: dict[Key, float] = {}
    for share in found.shares():
        owner = "all" if share.what == SEND and "multifd" in way else share.owner
        key = share.side, str(share.step), owner, share.what
        parts[key] = parts.get(key, 0) + share.us / 1e3
    return parts, found.us / 1e3, found.unattributed_us / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    options, source, destination = pair.parse(parser)
    print(f"{source.name} -> {destination.name}, {PLANTED_MS} ms in {SLOW}; medians, ms")
    for way in WAYS:
        for what, (rule, key) in PLANTS.items():
            grown: dict[Key, list[float]] = {}
            times: dict[bool, list[float]] = {False: [], True: []}
            nobody = []
            with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
                for number in range(options.pairs):
                    where = Path(scratch)
                    plain, plain_ms, left = shares(source, destination, "", way, where, number)
                    slow, slow_ms, _ = shares(source, destination, rule, way, where, number)
                    for one in plain | slow:
                        grown.setdefault(one, []).append(slow.get(one, 0) - plain.get(one, 0))
                    times[False].append(plain_ms)
                    times[True].append(slow_ms)
                    nobody.append(100 * left / plain_ms)
            median = {one: statistics.median(growths) for one, growths in grown.items()}
            other = max((ms, one) for one, ms in median.items() if one != key)
            print(
                f"{'+'.join(way) or '-':<20} {what:<19} {median.get(key, 0.0):6.1f} there, "
                f"{other[0]:4.1f} in {' '.join(filter(None, other[1]))}; downtime "
                f"{statistics.median(times[False]):.1f} and {statistics.median(times[True]):.1f}; "
                f"nobody's {statistics.median(nobody):.1f} %"
            )


if __name__ == "__main__":
    main()
