"""Random calls to emulated devices, most of which no sane program makes: nothing hangs, kills or
bloats the supervisor, and none is its own fault.

    python -m benchmarks.vfio_abuse [--calls 20000] [--seed 1] [--json]

A small program under a real supervisor makes them: any request on any descriptor with fields,
pointers, sizes and offsets at all ends, from threads and from children that are killed in mid-call,
exec, or close everything. Counts answers by errno; says how much processor time the supervisor took
for one call at most, and how many descriptors and how much memory it has at the end.
"""

import argparse
import ctypes
import errno
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qmptests.vfio import abi, descriptors, requests, spec, start
from qmptests.vfio.abi import Feature, FeatureFlag, Vfio
from qmptests.vfio.spec import Bar, Spec

DEVICES = 2
#: Seconds for all of it.
PATIENCE = 600
#: Numbers at which something may begin or end.
ENDS = (
    *(0, 1, 2, 3, 4, 7, 8, 12, 16, 24, 32, 64, 100, 255, 256, 4095, 4096, 4097, 1 << 20),
    *(1 << n for n in (21, 24, 30, 31, 32, 40, 43, 46, 47, 62, 63)),
    *((1 << n) - k for n in (31, 32, 40, 47, 63, 64) for k in (1, 8, 4096)),
)


#: Functions whose result is no int.
_SIZED = ("read", "write", "pread64", "pwrite64", "lseek")


class Found(NamedTuple):
    """What came of it. `slowest`: the call that took the supervisor the most processor time, and
    how much, in milliseconds. `problems`: what it said of itself.
    """

    answers: dict[str, int]
    slowest: str
    slowest_ms: float
    cpu_s: float
    descriptors: tuple[int, int]
    resident_kib: tuple[int, int]
    status: int
    problems: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="say it as JSON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(Abuser(options.seed).run(options.calls)))
        return
    found = abuse(options.calls, options.seed)
    if options.json:
        print(json.dumps(found._asdict()))
        return
    for name, count in sorted(found.answers.items(), key=lambda item: -item[1]):
        print(f"{name:<10} {count:7}")
    print(f"slowest: {found.slowest_ms:.2f} ms of processor time: {found.slowest}")
    print(f"all: {found.cpu_s:.2f} s")
    print("descriptors {} -> {}".format(*found.descriptors))
    print("resident {} KiB -> {} KiB".format(*found.resident_kib))
    print(f"status {found.status}, {len(found.problems)} problems")
    for problem in found.problems[:10]:
        print(f"  {problem}")


def abuse(calls: int, seed: int) -> Found:
    """So many calls of that seed, under a supervisor of their own."""
    bars = (Bar(0, 1 << 16), Bar(2, 1 << 20, wide=True))
    made = [
        Spec(f"vf{n}", bars=bars, initial_bytes=1 << 20, stop_copy=1 << 20) for n in range(DEVICES)
    ]
    argv = [sys.executable, "-m", "benchmarks.vfio_abuse", "--child"]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        log, settings = Path(scratch, "calls.jsonl"), Path(scratch, "settings.json")
        told = {
            "argv": [*argv, "--calls", str(calls), "--seed", str(seed)],
            "devices": [spec.to_json(device) for device in made],
            "log": str(log),
            "unlink": "",
        }
        settings.write_text(json.dumps(told))
        with settings.open() as stream:
            done = subprocess.run(
                [sys.executable, "-I", "-S", start.__file__, str(stream.fileno())],
                pass_fds=[stream.fileno()],
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
            )
        lines = log.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    said = [entry["words"] for entry in entries if entry.get("note") == "problem"]
    said = [words for words in said if " was asked " not in words]  # an unknown request
    if not done.stdout:
        raise SystemExit(f"the program ended with {done.returncode}: {done.stderr}")
    return Found(**json.loads(done.stdout), status=done.returncode, problems=said)


# --- in the process itself ----------------------------------------------------------------------


class Supervisor:
    """What can be seen of our parent."""

    def __init__(self) -> None:
        self.pid = os.getppid()

    @property
    def cpu_ns(self) -> int:
        """Processor time so far."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0])

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def resident_kib(self) -> int:
        """Its memory, without files."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        raise AssertionError("no RssAnon")


class Abuser:
    """Makes the calls."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.answers: Counter[str] = Counter()
        self.data = [descriptors.data(1024)[0]]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.pages = mmap.mmap(-1, 64 << 12, flags=flags)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.pages))
        self.mapped = 60 << 12
        self.libc.mprotect(ctypes.c_void_p(self.base + (61 << 12)), 4096, mmap.PROT_READ)
        self.libc.mprotect(ctypes.c_void_p(self.base + (62 << 12)), 4096, 0)
        self.libc.munmap(ctypes.c_void_p(self.base + (63 << 12)), 4096)
        self.file = os.memfd_create("mine")
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        os.ftruncate(self.file, 1 << 20)

    def run(self, calls: int) -> dict[str, Any]:
        """All of them; what `Found` has of them."""
        supervisor = Supervisor()
        self.set_up()
        kinds: list[tuple[Callable[[], str], int]] = [
            (self.request, 60),
            (self.feature, 40),
            (self.transfer, 40),
            (self.number, 6),
            (self.child, 2),
            (self.threads, 1),
        ]
        for _ in range(20):
            self.request()
        before = supervisor.descriptors, supervisor.resident_kib
        first, slowest, name = supervisor.cpu_ns, 0, ""
        ways, weights = zip(*kinds, strict=True)
        for way in self.random.choices(ways, weights, k=calls):
            began = supervisor.cpu_ns
            what = way()
            taken = supervisor.cpu_ns - began
            if taken > slowest and way not in (self.child, self.threads):
                slowest, name = taken, what
        return {
            "answers": dict(self.answers),
            "slowest": name,
            "slowest_ms": slowest / 1e6,
            "cpu_s": (supervisor.cpu_ns - first) / 1e9,
            "descriptors": (before[0], supervisor.descriptors),
            "resident_kib": (before[1], supervisor.resident_kib),
        }

    def set_up(self) -> None:
        """As QEMU does: bound, attached, with memory mapped, and BARs that answer."""
        alloc = abi.IOAS_ALLOC.pack(abi.IoasAlloc(abi.IOAS_ALLOC.size, 0, 0))
        at = self.base
        self.pages[: len(alloc)] = alloc
        self.call("ioctl", descriptors.IOMMUFD, int(abi.Iommu.IOAS_ALLOC), at)
        ioas = abi.IOAS_ALLOC.unpack(self.pages[: len(alloc)]).out_ioas_id
        for device in descriptors.devices(DEVICES):
            bind = abi.BindIommufd(abi.BIND_IOMMUFD.size, 0, descriptors.IOMMUFD, 0)
            self.pages[: abi.BIND_IOMMUFD.size] = abi.BIND_IOMMUFD.pack(bind)
            self.call("ioctl", device, int(Vfio.DEVICE_BIND_IOMMUFD), at)
            attach = abi.ATTACH_IOMMUFD_PT.unpack(bytes(abi.ATTACH_IOMMUFD_PT.size))
            attach = attach._replace(argsz=abi.ATTACH_IOMMUFD_PT.size, pt_id=ioas)
            self.pages[: abi.ATTACH_IOMMUFD_PT.size] = abi.ATTACH_IOMMUFD_PT.pack(attach)
            self.call("ioctl", device, int(Vfio.DEVICE_ATTACH_IOMMUFD_PT), at)
            os.pwrite(device, b"\x06\x00", int(abi.Region.CONFIG) << 40 | 4)
        if set(self.answers) != {"0"}:
            raise AssertionError(f"devices can't be set up: {self.answers}")

    # --- what there is to choose from -----------------------------------------------------------

    def end(self, bits: int = 64) -> int:
        """A number, mostly an odd one."""
        if self.random.random() < 0.2:
            return self.random.getrandbits(self.random.randrange(1, bits + 1))
        return self.random.choice(ENDS) % (1 << bits)

    def descriptor(self) -> int:
        """Mostly one of ours."""
        devices = descriptors.devices(DEVICES)
        own = [self.file, self.event, 59, 1 << 31, -1 % (1 << 32), descriptors.device(7)]
        ours = [*devices, *devices, descriptors.IOMMUFD, *self.data[-3:]]
        return int(self.random.choice(ours if self.random.random() < 0.9 else own))

    def pointer(self, data: bytes) -> int:
        """Where those bytes are, mostly; or where memory ends, can't be written, or isn't."""
        if self.random.random() < 0.8:
            at = self.base + self.random.choice((0, 8, 4096, 4099, self.mapped - len(data)))
            self.pages[at - self.base : at - self.base + len(data)] = data
            return at
        borders = [self.base + (page << 12) for page in (60, 61, 62, 63)]
        near = self.random.choice(borders) - self.random.choice((0, 1, 4, 8, 16, len(data)))
        return int(self.random.choice((near, near, self.end())))

    def record(self, layout: abi.Layout[Any]) -> bytes:
        """A structure with a few odd fields."""
        values = [self.random.choice((0, 1, 1, 2, 3, 5)) for _ in layout.fields]
        values[0] = layout.size
        codes = layout.codes.replace("x", "")
        for at, code in enumerate(codes):
            if self.random.random() < 0.25:
                bits = {"B": 8, "H": 16, "I": 32, "Q": 64}[code.upper()]
                value = self.random.choice((self.end(bits), self.base & ~4095)) % (1 << bits)
                values[at] = value - (1 << bits) * (code.islower() and value >> (bits - 1))
        return layout.pack(layout.record(*values)) + self.random.randbytes(16)

    # --- calls ----------------------------------------------------------------------------------

    def call(self, name: str, *words: int) -> str:
        """One of libc's functions; what was called."""
        function = getattr(self.libc, name)
        function.restype = ctypes.c_ssize_t if name in _SIZED else ctypes.c_int
        said = function(*(ctypes.c_void_p(word % (1 << 64)) for word in words))
        number = ctypes.get_errno() if said < 0 else 0
        if number == errno.EMFILE:
            self.data = self.data[-1:]
            kept = descriptors.data(1024)
            os.closerange(kept[0], kept[-1] + 1)
        self.answers[errno.errorcode.get(number, str(number)) if number else "0"] += 1
        return f"{name}({', '.join(map(hex, words))})"

    def request(self) -> str:
        """An ioctl of those that are known, or of none."""
        every = [
            (int(number), known.layout)
            for role in requests.REQUESTS.values()
            for number, known in role.items()
        ]
        number, layout = self.random.choice(every)
        if self.random.random() < 0.05:
            number = 0x3B00 + self.random.randrange(256)
        return self.call("ioctl", self.descriptor(), number, self.pointer(self.record(layout)))

    def feature(self) -> str:
        """VFIO_DEVICE_FEATURE; data descriptors that come of it are used from then on."""
        feature = self.random.choice([*Feature, self.end(16)])
        how = self.random.choice([*FeatureFlag, FeatureFlag.SET, FeatureFlag.GET, self.end(32)])
        data = self.random.choice(
            [
                abi.FEATURE_MIG_STATE.pack(abi.FeatureMigState(self.random.randrange(9), -1)),
                self.record(abi.LOGGING_CONTROL),
                self.record(abi.LOGGING_REPORT),
                self.random.randbytes(24),
            ]
        )
        if self.random.random() < 0.5:
            feature, how = Feature.MIG_DEVICE_STATE, FeatureFlag.SET
            state = abi.FeatureMigState(self.random.randrange(9), -1)
            data = abi.FEATURE_MIG_STATE.pack(state)
        size = abi.FEATURE_HEADER.size + len(data)
        size = size if self.random.random() < 0.8 else self.end(32)
        header = abi.FEATURE_HEADER.pack(abi.FeatureHeader(size, (feature | how) % (1 << 32)))
        at = self.pointer(header + data)
        device = self.random.choice(descriptors.devices(DEVICES))
        if self.random.random() < 0.1:
            self.call("ioctl", device, int(Vfio.DEVICE_RESET), 0)
        said = self.call("ioctl", device, int(Vfio.DEVICE_FEATURE), at)
        offset = at - self.base
        if 0 <= offset < self.mapped:
            number = int.from_bytes(self.pages[offset + 12 : offset + 16], "little", signed=True)
            if number in descriptors.data(1024):
                self.data.append(number)
                if len(self.data) > 20:
                    self.call("close", self.data.pop(0))
        return said

    def transfer(self) -> str:
        """Bytes to or from a descriptor."""
        name = self.random.choice(("read", "write", "pread64", "pwrite64", "pwrite64"))
        sizes = (1, 2, 4, 8, 4096, 4097, 1 << 20, 2 << 30)
        size = self.random.choice(sizes) if self.random.random() < 0.8 else self.end()
        number = self.descriptor()
        if name == "write" and size > 1 << 20 and number not in self.data[-3:]:
            size = 16
        words = [number, self.pointer(b"x" * 16), size]
        if name.startswith("p"):
            region, at = self.random.randrange(10), self.random.choice(ENDS) % (1 << 40)
            words.append(region << 40 | at if self.random.random() < 0.9 else self.end())
        return self.call(name, *words)

    def number(self) -> str:
        """Things that are done to descriptors."""
        number = self.random.choice(self.data[-3:])
        name = self.random.choice(("dup", "fcntl", "lseek", "ftruncate", "fsync"))
        if name in ("dup", "fsync"):
            return self.call(name, number)
        command = self.random.choice((0, 1, 3, 1030)) if name == "fcntl" else self.end()
        if name == "ftruncate":
            command %= 1 << 16
        return self.call(name, number, command, self.end(10))

    def child(self) -> str:
        """A child that makes a few calls, and ends in one way or another."""
        how = self.random.choice(("exit", "kill", "exec", "close", "vfork"))
        if how == "vfork":
            subprocess.run(["true"], check=True)
            return how
        seed = self.random.random()
        child = os.fork()
        if child == 0:
            try:
                self.random.seed(seed)
                if how == "close":
                    os.closerange(3, 2000)
                for _ in range(1 << 30 if how == "kill" else 5):
                    self.random.choice((self.request, self.transfer, self.feature))()
                if how == "exec":
                    os.execvp("true", ["true"])  # noqa: S606 - that is what is tried
            finally:
                os._exit(0)
        if how == "kill":
            time.sleep(self.random.random() / 100)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return how

    def threads(self) -> str:
        """Many calls at once, which signals interrupt."""
        old = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            made = [threading.Thread(target=self.feature) for _ in range(64)]
            for thread in made:
                thread.start()
            for thread in made:
                thread.join()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        return "threads"


if __name__ == "__main__":
    main()
