"""What it takes to have a call answered by an emulated device, and what a call costs that isn't.

    python -m benchmarks.vfio_call [--calls 20000] [--rounds 3]

A small process under the filter asks a device of a real supervisor, which logs every call, for
VFIO_DEVICE_GET_INFO and MIG_DATA_SIZE. Beside that, in pairs: system calls that are not notified
(getppid and a pread of 4 KiB), with the filter and without it.
"""

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

from qmptests.vfio import abi, descriptors, spec, start
from qmptests.vfio.abi import Feature, FeatureFlag, Vfio
from qmptests.vfio.spec import Spec

#: Of system calls that are not notified: so many are timed in one go.
BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=("notified", "others"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work = ask if options.child == "notified" else others
        json.dump(work(options.calls), sys.stdout)
        return
    print(f"{options.calls} calls in each of {options.rounds} rounds")
    figures: dict[str, list[list[int]]] = {}
    for _ in range(options.rounds):
        found = supervised(child("notified", options.calls))
        for name, taken in supervised(child("others", options.calls)).items():
            found[f"{name}, with the filter"] = taken
        for name, taken in alone(child("others", options.calls)).items():
            found[f"{name}, without"] = taken
        for name, taken in found.items():
            figures.setdefault(name, []).append(taken)
    for name, rounds in figures.items():
        print(line(name, rounds))
    for name in ("getppid", "pread of 4 KiB"):
        pair = (figures[f"{name}, {how}"] for how in ("with the filter", "without"))
        under, bare = (statistics.median(chain(*rounds)) for rounds in pair)
        print(f"{name}: {under - bare:+.0f} ns with the filter, {under / bare:.2f}x")


def line(name: str, rounds: list[list[int]]) -> str:
    """All calls together, and in brackets the best and the worst round's p99."""
    ordered = sorted(chain(*rounds))
    p50, p95, p99 = (ordered[int(part * len(ordered))] / 1000 for part in (0.5, 0.95, 0.99))
    each = sorted(sorted(taken)[int(0.99 * len(taken))] / 1000 for taken in rounds)
    return (
        f"{name:<32} median {p50:7.2f} us, p95 {p95:7.2f} us, p99 {p99:7.2f} us "
        f"(rounds: {each[0]:.2f} to {each[-1]:.2f})"
    )


def child(work: str, calls: int) -> list[str]:
    """The command line of the process that makes the calls."""
    return [sys.executable, "-m", "benchmarks.vfio_call", "--child", work, "--calls", str(calls)]


def alone(argv: list[str]) -> dict[str, list[int]]:
    """What the process says, without a filter."""
    told: dict[str, list[int]] = json.loads(subprocess.check_output(argv))
    return told


def supervised(argv: list[str]) -> dict[str, list[int]]:
    """The same under a supervisor, with one device."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        settings = Path(scratch, "settings.json")
        log = str(Path(scratch, "calls.jsonl"))
        device = spec.to_json(Spec("vf0", stop_copy=1 << 30))
        settings.write_text(
            json.dumps({"argv": argv, "devices": [device], "log": log, "unlink": ""})
        )
        with settings.open() as stream:
            done = subprocess.run(
                [sys.executable, "-I", "-S", start.__file__, str(stream.fileno())],
                pass_fds=[stream.fileno()],
                capture_output=True,
                check=True,
            )
    told: dict[str, list[int]] = json.loads(done.stdout)
    return told


# --- in the process itself ----------------------------------------------------------------------


def timed(work: Callable[[], object], count: int, batch: int = 1) -> list[int]:
    """Nanoseconds of each call, the mean of `batch` in a row."""
    taken = []
    clock = time.perf_counter_ns
    for _ in range(count // batch):
        began = clock()
        for _ in range(batch):
            work()
        taken.append((clock() - began) // batch)
    return taken


def ask(calls: int) -> dict[str, list[int]]:
    """Bind the device, as QEMU does, and ask it."""
    device = descriptors.device(0)
    bind = abi.BindIommufd(abi.BIND_IOMMUFD.size, 0, descriptors.IOMMUFD, 0)
    fcntl.ioctl(device, int(Vfio.DEVICE_BIND_IOMMUFD), bytearray(abi.BIND_IOMMUFD.pack(bind)))
    info = bytearray(abi.DEVICE_INFO.pack(abi.DeviceInfo(abi.DEVICE_INFO.size, 0, 0, 0)))
    header = abi.FEATURE_HEADER.size
    wanted = Feature.MIG_DATA_SIZE | FeatureFlag.GET
    size = bytearray(abi.FEATURE_HEADER.pack(abi.FeatureHeader(header + 8, int(wanted)))) + bytes(8)
    requests = {
        "DEVICE_GET_INFO": (int(Vfio.DEVICE_GET_INFO), info),
        "MIG_DATA_SIZE": (int(Vfio.DEVICE_FEATURE), size),
    }
    found = {}
    for name, (request, argument) in requests.items():
        found[name] = timed(partial(fcntl.ioctl, device, request, argument), calls)
    assert int.from_bytes(size[header:], "little") == 1 << 30
    return found


def others(calls: int) -> dict[str, list[int]]:
    """Calls that are the kernel's alone."""
    batch = min(BATCH, calls)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4096))
        file.flush()
        return {
            "getppid": timed(os.getppid, 20 * calls, batch),
            "pread of 4 KiB": timed(lambda: os.pread(file.fileno(), 4096, 0), 20 * calls, batch),
        }


if __name__ == "__main__":
    main()
