"""Does every reader survive every damage? Files of a run and of the cache, and control messages.

    python -m benchmarks.mutations [--count 10000] [--seed 1] [--first 0] [--source ...]
                                   [--destination ...]

One migration with an emulated device is made. Then in each case one file is damaged (a bit, a cut,
a number of thousands of digits, another type, a pipe in its place) and a command reads it, or a
supervisor gets a damaged request. Good is: it does its work, or says in one line what is wrong and
ends with its exit status, within its deadline and its memory. Printed: how often each reader ended
with which status, and each case that was bad, with what repeats it. Exit status 1 if one was.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from benchmarks import mutating
from qmptests import builds, dirs
from qmptests.cli import main
from qmptests.errors import QmptestsError
from qmptests.matrix import store

#: Seconds that a case may take.
DEADLINE_S = 20
#: Bytes of address space, more than what the process has at the start.
ROOM = 3 << 30
#: Cases that put something else in the file's place.
PLACES = 0.08

CELL_READERS = (
    "timeline {cell}",
    "timeline {cell} --json",
    "timeline {cell} --downtime",
    "timeline {cell} --downtime --json",
    "timeline {cell} --perfetto {out}/perfetto.json",
    "vfio trace {cell}",
    "trace diff {cell} {other}",
    "report {run}",
    "report {run} --output {out}/page.html",
    "report {run} --compare {second} --json {out}/compared.json",
    "history add {out}/new.sqlite {run}",
)
RUN_READERS = (
    "report {run}",
    "report {run} --output {out}/page.html",
    "report {run} --compare {second}",
    "history add {out}/new.sqlite {run}",
)
HISTORY_READERS = (
    "history show {history} --all",
    "history show {history} --output {out}/nights.html",
    "history add {history} {second}",
    "history rebuild {history} --quiet",
)
DEVICES = ("grow", "reinit", "dirty", "announce", "dma", "interrupt")


class Sample(NamedTuple):
    """What there is to be damaged: file -> the readers of it."""

    readers: dict[Path, tuple[str, ...]]
    names: dict[str, Path]


class Hang(BaseException):
    """A case has not ended."""


def make(folder: Path, source: str, destination: str) -> Sample:
    """A run with one migration, a second run, a history, TOML files and a cache."""
    run, second = folder / "run", folder / "second"
    sides = ("--source", source, "--destination", destination)
    arguments = ("--select", "full", "--machine", "q35", "--device", "busy", "--quiet")
    command = (sys.executable, "-m", "qmptests.cli.main", "matrix", *sides, *arguments)
    subprocess.run([*command, "--output", str(run)], check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(run, second)
    (outcome,) = run.glob("*/*/outcome.json")
    cell = outcome.parent
    names = {
        "run": run,
        "second": second,
        "cell": cell,
        "other": second / cell.relative_to(run),
        "history": folder / "history.sqlite",
        "out": folder / "out",
        "toml": folder / "toml",
        "log": cell / "source.vfio.jsonl",
    }
    names["out"].mkdir()
    names["toml"].mkdir()
    for one in (run, second):
        _read(f"history add {names['history']} {one}".split())
    readers: dict[Path, tuple[str, ...]]
    readers = {file: CELL_READERS for file in cell.iterdir() if file.suffix in (".json", ".jsonl")}
    readers |= dict.fromkeys(cell.glob("*.trace.log"), CELL_READERS)
    readers |= dict.fromkeys(cell.glob("*.stderr.log"), CELL_READERS[:1])
    readers[names["log"]] = (*CELL_READERS, *["vfio run --like {log} -- true"] * 4)
    readers[run / "results.json"] = RUN_READERS
    readers |= dict.fromkeys((run / "cells.json", run / "builds.json"), ("(worker) {run}",))
    readers[names["history"]] = HISTORY_READERS * 2
    readers |= dict.fromkeys(_definitions(names["toml"]), (_listing(source, destination),) * 2)
    readers |= dict.fromkeys(_own_cache(folder, source), ("builds list", "builds list --json"))
    readers[folder / "request.json"] = ("(supervisor)",) * 12
    (folder / "request.json").write_bytes(b"{}")
    sample = Sample(readers, names)
    for reader in sorted(set().union(*readers.values())):
        status, said = _ask(reader, sample)
        assert status == 0, f"{reader} of what is not damaged: {status}, {said}"
    return sample


def _listing(source: str, destination: str) -> str:
    return (
        f"matrix --list --source {source} --destination {destination} --vm {{toml}}/vm.toml "
        "--device {toml}/device.toml --known-issues {toml}/issues.toml --select full"
    )


def _definitions(folder: Path) -> list[Path]:
    texts = {
        "vm": 'description = "one"\nmachine = "q35"\nmemory = "256M"\ncpus = 1\ncpu = "qemu64"\n'
        'devices = ["virtio-rng-pci"]\nargs = ["-boot", "menu=on"]\n\n[guest]\nkind = "dirtier"\n'
        'length = "16M"\n',
        "device": 'description = "one"\n\n[vfio]\nstop_copy = "8M"\ninitial = "16M"\n'
        'dirty_rate = "1M"\n\n[[vfio.when]]\ncall = "set-state:stop-copy"\ndo = "delay=50ms"\n'
        'nth = 2\nin = ["pre-copy-p2p"]\n',
        "issues": '[[issue]]\nname = "a"\nreference = "b"\nexpires = 2030-01-01\n'
        'result = "crashed"\nside = "source"\nstage = ""\ntext = "x"\ncells = "machine=q35"\n',
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return [folder / f"{name}.toml" for name in texts]


def _own_cache(folder: Path, source: str) -> list[Path]:
    """A cache of our own from now on; its unpacked packages are those of the user's."""
    theirs, ours = dirs.cache_dir() / "packages", folder / "cache" / "packages"
    build = builds.resolve(source)
    os.environ["QMPTESTS_CACHE"] = str(ours.parent)
    tree = ours / "trees" / build.digest
    tree.mkdir(parents=True)
    (ours / "debs").symlink_to(theirs / "debs")
    shutil.copytree(theirs / "suites", ours / "suites", ignore=shutil.ignore_patterns("lists"))
    for file in (theirs / "trees" / build.digest).iterdir():
        if file.name == "root":
            (tree / "root").symlink_to(file)
        else:
            shutil.copy(file, tree / file.name)
    builds.add([source])
    return [*ours.parent.glob("builds/*/*.json"), *tree.glob("*.json"), *tree.glob("sound")]


# --- one case -----------------------------------------------------------------------------------


def _ask(reader: str, sample: Sample) -> tuple[object, str]:
    """A reader's exit status and what it says on stderr; a supervisor is asked elsewhere."""
    if reader == "(supervisor)":
        return 0, ""
    words = [word.format_map(sample.names) for word in reader.split()]
    try:
        if words[0] == "(worker)":
            return _worker(Path(words[1]))
        return _like(words) if "--like" in words else _read(words)
    finally:
        for left in sample.names["out"].iterdir():
            left.unlink()


def _read(words: list[str]) -> tuple[object, str]:
    """A command's exit status and what it printed on stderr, run in this process."""
    streams = [os.fdopen(os.memfd_create(name), "w+", encoding="utf-8") for name in ("out", "err")]
    before = sys.argv, sys.stdout, sys.stderr
    sys.argv, sys.stdout, sys.stderr = ["qmptests", *words], *streams
    try:
        status = main._run()
    finally:
        sys.argv, sys.stdout, sys.stderr = before
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.flush()
    with contextlib.closing(streams[0]), streams[1] as stream:
        stream.seek(0)
        return status or 0, stream.read()


def _like(words: list[str]) -> tuple[object, str]:
    """The same in a process of its own, since it becomes the supervisor."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "qmptests.cli.main", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            process.wait(DEADLINE_S / 2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        lines = [line for line in said if "vfio ctl --socket" not in line]
        return process.returncode, "".join(lines)


def _worker(folder: Path) -> tuple[object, str]:
    """What a worker of pytest reads."""
    try:
        matrix = store.read(folder)
        found = store.read_builds(folder)
        for cell in matrix.selected:
            matrix.plan(cell, found)
    except QmptestsError as error:
        return error.exit_code, f"qmptests: error: {error}\n"
    return 0, ""


class Supervisor:
    """One that runs during all cases, and must answer each of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control"
        devices = ("--device", "idle", "--device", "busy", "--control", str(self.path))
        command = (sys.executable, "-m", "qmptests.cli.main", "vfio", "run", *devices)
        self.process = subprocess.Popen(
            [*command, "--", "cat"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr
        self.process.stderr.readline()

    def ask(self, packet: bytes) -> tuple[object, str]:
        """0 if it answers, and goes on; status 2 if it says what is wrong."""
        answers = []
        for one in (packet[: 1 << 16], b'{"do": "status", "id": 1}'):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                peer.settimeout(DEADLINE_S)
                peer.connect(str(self.path))
                if not one:
                    continue
                peer.send(one)
                answers.append(json.loads(peer.recv(1 << 17)))
        if not answers[-1]["ok"]["devices"]:
            return "senseless", ""
        return (2, "qmptests: error: x\n") if "error" in answers[0] else (0, "")

    def close(self) -> None:
        """End it; raises AssertionError if it ended otherwise than the command."""
        _, said = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0, said


def _request(chance: random.Random) -> bytes:
    rule = {"on": "read", "do": "delay", "value": 0.001, "nth": 3, "times": 2, "states": ["stop"]}
    requests: list[dict[str, Any]] = [
        {"do": chance.choice(DEVICES), "value": 4096},
        {"do": "rule", "rule": rule},
        {"do": "unrule", "number": 1},
        {"do": "status"},
        {"do": "release"},
    ]
    return json.dumps({"id": 7, "device": "vf1", **chance.choice(requests)}).encode()


def _sql(chance: random.Random, file: Path) -> None:
    """Another value, or another table, in a history that SQLite takes for sound."""
    values = ("null", "'x'", "x'ff'", "-1", "1e300", "9e999", "cast(x'ff' as text)", "''", "1e18")
    table = chance.choice(("runs", "items", "figures"))
    columns = {
        "runs": ("folder", "started"),
        "items": ("run", "name", "verdict", "because"),
        "figures": ("run", "name", "figure", "ms"),
    }
    column = chance.choice(columns[table])
    # A view that has no end.
    rows = "run, name, verdict, because, id, folder, started, figure, ms"
    view = (
        f"with recursive c({rows}) as (select 1, 'a', 'b', 'c', 1, 'd', 1.0, 'downtime', 1.0 "  # noqa: S608
        f"union all select {rows} from c) select * from c"
    )
    statements = (
        f"update {table} set {column} = {chance.choice(values)}",  # noqa: S608
        f"delete from {table}",  # noqa: S608
        f"drop table {table}",
        f"alter table {table} rename to other",
        f"pragma user_version = {chance.choice(('0', '1', '99', '-1'))}",
        f"drop table {table}; create view {table} as {view}",
    )
    with contextlib.closing(sqlite3.connect(file)) as db, contextlib.suppress(sqlite3.Error):
        db.executescript(
            f"pragma ignore_check_constraints = on; pragma writable_schema = on; "
            f"{chance.choice(statements)};"
        )


def damage(chance: random.Random, file: Path) -> str:
    """Damage a file; what was done to it."""
    if chance.random() < PLACES:
        return mutating.put_in_place(chance, file)
    if file.suffix == ".sqlite" and chance.random() < 0.5:
        _sql(chance, file)
        return "sql"
    file.write_bytes(mutating.content(chance, file.read_bytes(), file.name))
    return "content"


def case(sample: Sample, supervisor: Supervisor, seed: str) -> tuple[str, str, str]:
    """The reader, how it ended, and what was bad about that, or ""."""
    chance = random.Random(seed)
    file = chance.choice(sorted(sample.readers))
    reader = chance.choice(sample.readers[file])
    original = file.read_bytes()
    what = "request"
    try:
        if reader == "(supervisor)":
            packet = mutating.content(chance, _request(chance), "request.json")
            status, said = supervisor.ask(packet)
        else:
            what = damage(chance, file)
            status, said = _ask(reader, sample)
        problem = _judge(reader, status, said)
    except (Exception, Hang):  # noqa: BLE001 - that is what is looked for
        status, problem = "died", traceback.format_exc()
    finally:
        mutating.restore(file, original)
    kind = " ".join(word for word in reader.split() if "{" not in word and "debian:" not in word)
    if problem:
        problem = f"{file.name} ({what}), {reader}: {problem}"
    return kind, str(status), problem


def _judge(reader: str, status: object, said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith("qmptests: error: ")]
    if "Traceback" in said or status not in (0, 1, 2, 3):
        return f"status {status}: {said[-3000:]}"
    if status in (2, 3) and len(errors) != 1 and not reader.startswith("builds list"):
        return f"status {status} and {len(errors)} lines that say why: {said[:500]!r}"
    return ""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """No case may take more memory, or longer."""

    def late(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Hang

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, before[1]))
    handler = signal.signal(signal.SIGALRM, late)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(options: argparse.Namespace, folder: Path) -> int:
    """All cases; the exit status."""
    counts: Counter[tuple[str, str]] = Counter()
    bad = 0
    sample = make(folder, options.source, options.destination)
    supervisor = Supervisor(folder)
    with bounded():
        for number in range(options.first, options.first + options.count):
            signal.alarm(DEADLINE_S)
            kind, status, problem = case(sample, supervisor, f"{options.seed} {number}")
            counts[kind, status] += 1
            if problem:
                bad += 1
                again = f"--seed {options.seed} --first {number} --count 1"
                sys.stdout.write(f"BAD: python -m benchmarks.mutations {again}\n{problem}\n")
                sys.stdout.flush()
    supervisor.close()
    width = max(len(kind) for kind, _ in counts)
    for kind in sorted({kind for kind, _ in counts}):
        ends = sorted((status, n) for (which, status), n in counts.items() if which == kind)
        words = "  ".join(f"{status}: {n:>5}" for status, n in ends)
        sys.stdout.write(f"{kind:<{width}}  {words}\n")
    sys.stdout.write(f"{options.count} cases, seed {options.seed}: {bad} bad\n")
    return 1 if bad else 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--source", default="debian:trixie")
    parser.add_argument("--destination", default="debian:trixie-backports")
    return parser.parse_args()


if __name__ == "__main__":
    # In memory where there is such a place: SQLite waits for the disk at each of its changes.
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shm) as scratch:
        sys.exit(run(parse(), Path(scratch)))
