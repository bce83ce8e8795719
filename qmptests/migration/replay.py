"""What `reproduce.sh` runs: it starts two QEMUs and drives their monitors.

Its text is put into each script (`reproduce.py` does it), so it needs the standard library alone,
and any Python from 3.9 on. What it is told comes as JSON, never as a part of the program.
"""

import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

#: Seconds for QEMU to answer, and to end.
ANSWER_S, END_S = 60, 10


def say(*words: object, file: Any = None) -> None:
    """A line; what would steer the terminal is shown instead."""
    text = " ".join(map(str, words))
    shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
    encoding = sys.stdout.encoding or "ascii"
    print(shown.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def die_with_us() -> None:
    """Also if this script is killed: prctl(PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def folder_of(script: str) -> str:
    """Where the evidence is, by the shell's $0: a guest's image may be in it."""
    if not os.path.exists(script):
        script = shutil.which(script) or script  # some shells look along PATH
    return os.path.dirname(os.path.abspath(script))


def filled(text: str, places: dict[str, str]) -> str:
    """`text` with values in the place of @NAME@; with @NAME,@ as QEMU's options want them."""

    def value(match: "re.Match[str]") -> str:
        known = places.get(match[1])
        if known is None:
            return match[0]
        return known.replace(",", ",,") if match[2] else known

    return re.sub("@([A-Z0-9_]+)(,?)@", value, text)


class VM:
    """A QEMU and its monitor."""

    def __init__(self, side: str, plan: dict[str, Any], here: str, scratch: str) -> None:
        self.side, self.scratch = side, scratch
        self.events: list[dict[str, Any]] = []
        ours, theirs = socket.socketpair()
        self.file = ours.makefile("rw", buffering=1, encoding="utf-8")
        ours.settimeout(ANSWER_S)
        self.log = os.path.join(scratch, side + ".log")
        self.console = os.path.join(scratch, side + ".console.log")
        open(self.console, "wb").close()
        places = {"QMP": str(theirs.fileno()), "DIR": scratch, "HERE": here}
        told = [filled(word, places) for word in plan["argv"][side]]  # without the secrets
        places.update((name, os.environ[name]) for name in plan["secrets"])
        argv = [filled(word, places) for word in told]
        if plan["emulated"][side]:
            run = [shutil.which("qmptests") or plan["qmptests"], "vfio", "run"]
            run += ["--like", os.path.join(here, plan["emulated"][side])]
            run += ["--log", os.path.join(scratch, side + ".vfio.jsonl")]
            run += ["--control", os.path.join(scratch, side + ".vfio.sock"), "--"]
            argv, told = [*run, *argv], [*run, *told]
        say(side + ":", " ".join(map(shlex.quote, told)))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, **plan["env"][side]},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_us,  # noqa: PLW1509 - there are no threads
            )
        theirs.close()

    def connect(self) -> None:
        """Wait for the greeting."""
        self.receive()
        self.execute("qmp_capabilities")

    def receive(self) -> dict[str, Any]:
        """The next message."""
        line = self.file.readline()
        if not line:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                say(log.read())
            status = self.process.wait(END_S)
            sys.exit(f"{self.side} ended: status {status}, see {self.scratch}")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message)
            if message["event"] != "MIGRATION_PASS":
                say(self.side, message["event"], message.get("data", ""))
        return message

    def execute(self, command: str, arguments: Any = None) -> Any:
        """What QEMU returns; its error is said."""
        self.file.write(json.dumps({"execute": command, "arguments": arguments or {}}))
        self.file.flush()
        while True:
            message = self.receive()
            if "error" in message:
                say(self.side, command, message["error"]["desc"])
            if "return" in message or "error" in message:
                return message.get("return")

    def status(self, wanted: list[str], deadline: float) -> str:
        """The first of the migration's states that is `wanted`."""
        while time.monotonic() < deadline:
            for event in self.events:
                if event["event"] == "MIGRATION" and event["data"]["status"] in wanted:
                    return str(event["data"]["status"])
            self.receive()
        sys.exit(f"timed out waiting for {wanted}, see {self.scratch}")

    def end(self) -> None:
        """By SIGTERM, and by SIGKILL if that doesn't."""
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_S)


def main(plan: dict[str, Any], script: str) -> int:
    """Do what `plan` says; our exit status. `script`: the path of this script."""
    lacking = [name for name in plan["secrets"] if name not in os.environ]
    if lacking:
        say(f"{script}: secrets were left out of it: set {', '.join(lacking)}", file=sys.stderr)
        return 2
    scratch = tempfile.mkdtemp(prefix="reproduce-")
    deadline = time.monotonic() + plan["timeout_s"]
    here = folder_of(script)
    vms: dict[str, VM] = {}
    try:
        for side in ("destination", "source"):
            vms[side] = VM(side, plan, here, scratch)
            vms[side].connect()
        end = migrate(plan, vms, scratch, deadline)
    finally:
        for vm in vms.values():
            vm.end()
    say("logs:", scratch)
    return 0 if end == "completed" else 1


def migrate(plan: dict[str, Any], vms: dict[str, VM], scratch: str, deadline: float) -> str:
    """The commands in their order; the state in which the migration ended."""
    # A guest that says when it lives: the migration starts then, as it did originally.
    while plan["wait_for_guest"] and time.monotonic() < deadline:
        if os.path.getsize(vms["source"].console):
            break
        time.sleep(0.01)
    for step in plan["commands"]:
        vm, command = vms[step["side"]], step["execute"]
        places = {name: json.dumps(os.environ[name])[1:-1] for name in plan["secrets"]}
        places["DIR"] = json.dumps(scratch)[1:-1]
        text = json.dumps(step["arguments"])
        if command == "migrate" and "@PORT@" in text:
            listening = vms["destination"].execute("query-migrate")["socket-address"][0]
            places["PORT"] = str(listening["port"])
        if command == "migrate-continue":
            vm.status(["pre-switchover"], deadline)
        if command == "migrate_cancel":
            vm.status(["active", "pre-switchover"], deadline)
        vm.execute(command, json.loads(filled(text, places)))
    end = vms["source"].status(["completed", "failed", "cancelled"], deadline)
    say("source:", vms["source"].execute("query-migrate"))
    if end == "completed":
        vms["destination"].status(["completed"], deadline)
        say("destination:", vms["destination"].execute("query-status"))
    return end
