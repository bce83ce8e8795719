"""Whatever process of ours is killed or stopped, the evidence is there in time.

    python -m benchmarks.lost [--victim launcher ...] [--signal STOP KILL] [--phase start ...]
                              [--repeat 1] [--timeout 5]

Runs `qmptests migrate` with an emulated device on both sides, and in each phase sends the signal to
one process. A run has held if it ended within the migration's deadline and 10 s, with the exit
status that belongs to its result, with its folder whole or a partial one that standard error
names, and if nothing that it started is left. A stopped command goes on after the deadline; a
wrapper has no deadline, so a stopped one is followed by Ctrl-C.
"""

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

VICTIMS = (
    *("launcher", "source-supervisor", "destination-supervisor"),
    *("source", "destination", "wrapper", "command"),
)
#: Phase -> a file of the evidence, and what is in it from then on.
PHASES = {
    "start": ("", ""),
    "precopy": ("source.qmp.jsonl", '"status":"active"'),
    "held": ("source.vfio.jsonl", '"held"'),
    "teardown": ("source.qmp.jsonl", '"execute":"quit"'),
}
MARK = "QMPTESTS_LOST"
#: Seconds beyond the deadline; and seconds after which a run is given up.
LAW_S, GIVE_UP_S = 10.0, 240.0
#: Exit statuses by result, "" being none; 1 for others.
STATUSES = {"completed": 0, "environment": 3, "emulation-failed": 3, "interrupted": 130, "": -9}
HELD = "busy,when=set-state:stop-copy+hold+side=source"


@dataclass(frozen=True)
class Attack:
    """Who gets which signal, when, in a migration with what deadline (seconds)."""

    victim: str
    number: signal.Signals
    phase: str
    timeout: float

    def arguments(self, output: Path) -> list[str]:
        """Of `qmptests`."""
        words = ["migrate", "-q", "--timeout", f"{self.timeout:g}", "--output", str(output)]
        words += ["--source", "debian:trixie", "--destination", "debian:trixie-backports"]
        words += ["--device", HELD if self.phase == "held" else "busy"]
        words += ["--parameter", "max-bandwidth=1M"] * (self.phase == "precopy")
        words += ["--wrapper", "env WRAPPED={side}"] * (self.victim == "wrapper")
        return words


class Run:
    """A command that is attacked."""

    def __init__(self, attack: Attack, folder: Path) -> None:
        self.attack, self.out, self.mark = attack, folder / "out", secrets.token_hex(8)
        self.partial = folder / "out.partial"
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(folder)}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "qmptests.cli.main", *attack.arguments(self.out)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def running(self) -> dict[int, str]:
        """Pids and command lines of the command and all that it started."""
        entry, found = f"{MARK}={self.mark}".encode(), {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (process / "environ").read_bytes()
                if entry in environment.split(b"\0"):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(process.name)] = words.decode(errors="replace")
        return found

    def find(self) -> int | None:
        """The victim's pid."""
        victim = self.attack.victim
        if victim == "command":
            return self.popen.pid
        for pid, words in self.running().items():
            if victim.endswith("-supervisor"):
                is_it = f"start.py 5 {victim.partition('-')[0]}" in words
            elif victim == "launcher":
                is_it = "launcher.py" in words
            else:  # `env` has become the QEMU that it wrapped
                is_it = "socket,id=qmp" in words and "-machine none" not in words
                is_it &= "start.py" not in words
                is_it &= ("-incoming" in words) == (victim == "destination")
            if is_it:
                return pid
        return None

    def reached(self) -> bool:
        """Whether the migration is in that phase."""
        name, text = PHASES[self.attack.phase]
        for folder in (self.partial, self.out):
            with contextlib.suppress(OSError):
                if name and text in (folder / name).read_text(errors="replace").replace(" ", ""):
                    return True
        return not name

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds or the command has ended."""
        while self.popen.poll() is None and not condition():
            time.sleep(0.002)

    def strike(self) -> float | None:
        """Send the signal; when the time begins that it has. None: it was over before."""
        self.until(lambda: self.reached() and self.find())
        pid, stopped = self.find(), self.attack.number is signal.SIGSTOP
        if pid is None or self.popen.poll() is not None:
            return None
        began = time.monotonic()
        try:
            os.kill(pid, self.attack.number)
        except ProcessLookupError:
            return None
        if stopped and self.attack.victim in ("command", "wrapper"):
            time.sleep(self.attack.timeout + 2)
            began = time.monotonic()
            goes_on = self.attack.victim == "command"
            self.popen.send_signal(signal.SIGCONT if goes_on else signal.SIGINT)
        return began

    def result(self) -> tuple[str, str]:
        """The result and the error of the outcome, if there is one."""
        try:
            record = msgspec.json.decode((self.out / "outcome.json").read_bytes())
        except OSError:
            return "", ""
        return record["result"], record.get("error", "")

    def clean_up(self) -> None:
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)
        self.popen.kill()
        self.popen.communicate()


def judge(run: Run) -> tuple[list[str], str]:
    """What is wrong, and how it ended."""
    began = run.strike()
    if began is None:
        return [], "it was over before"
    try:
        _, err = run.popen.communicate(timeout=GIVE_UP_S)
    except subprocess.TimeoutExpired:
        return ["it does not end"], ""
    seconds, status = time.monotonic() - began, run.popen.returncode
    result, error = run.result()
    deadline = time.monotonic() + LAW_S
    while run.running() and time.monotonic() < deadline:
        time.sleep(0.01)
    lost = run.attack.victim.partition("-")[0]
    whole = bool(result) or run.attack.victim == "command"
    named = bool(result) or not run.partial.exists() or str(run.partial) in err
    checks = {
        "late": seconds <= run.attack.timeout + LAW_S,
        "something is left": not run.running(),
        "no outcome": whole,
        "the evidence is not named": named,
        "traceback": "Traceback" not in err,
        "wrong status": status == STATUSES.get(result, 1),
        "who was lost is not said": STATUSES.get(result) != 3 or lost in error,
        "wrong result": lost != "launcher" or result in ("environment", "completed"),
    }
    ended = f"{seconds:.1f} s, {status}, {result or 'no outcome'}: {error or err.strip()}"
    return [words for words, right in checks.items() if not right], ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victim", nargs="*", default=VICTIMS, choices=VICTIMS)
    parser.add_argument("--signal", nargs="*", default=("STOP", "KILL"))
    parser.add_argument("--phase", nargs="*", default=list(PHASES), choices=list(PHASES))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=5.0)
    options = parser.parse_args()
    attacks = [
        Attack(victim, signal.Signals[f"SIG{name}"], phase, options.timeout)
        for victim in options.victim
        for name in options.signal
        for phase in options.phase
        for _ in range(options.repeat)
    ]
    held = 0
    for attack in attacks:
        with tempfile.TemporaryDirectory(prefix="lost-") as folder:
            run = Run(attack, Path(folder))
            try:
                wrong, ended = judge(run)
            finally:
                run.clean_up()
        held += not wrong
        told = f"{attack.victim:<22} {attack.number.name:<7} {attack.phase:<8} "
        print(f"{told} {', '.join(wrong) or 'held'}: {ended.replace(folder, '...')}", flush=True)
    print(f"{held} of {len(attacks)} held")
    sys.exit(0 if held == len(attacks) else 1)


if __name__ == "__main__":
    main()
