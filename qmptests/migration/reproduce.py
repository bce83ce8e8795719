"""`reproduce.sh`: the same two command lines and the same QMP commands, without qmptests.

The script needs Python's standard library only, since it drives two monitors; emulated devices
also `qmptests vfio run`. What differs from
the original run, by necessity: the monitors and consoles are sockets and files in a temporary
directory, and a stream over `fd` becomes one over a UNIX socket.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec

from qmptests.outcome.record import OutcomeRecord, SideRecord
from qmptests.vm.command import USER_MONITOR

_HEADER = """\
#!/bin/sh
# Reproduces a migration that qmptests {version} ran: {name}
# result then: {result} (expected: {expected}){error}
# source:      {source}
# destination: {destination}
{wrapper}# Needs the same two QEMU builds in the same places, and python3{emulated}.
# The logs go to the directory that is printed at the end. Exit status 0: completed, 1: not.
exec python3 - "$(cd "$(dirname "$0")" && pwd)" <<'END_OF_SCRIPT'
"""

_SCRIPT = r'''
import ctypes, json, os, shutil, signal, socket, subprocess, sys, tempfile, time

PLAN = json.loads(r"""
{plan}
""")
here = sys.argv[1]  # the folder of the evidence: a guest's image may be in it
scratch = tempfile.mkdtemp(prefix="reproduce-")
DEADLINE = time.monotonic() + {timeout}


def die_with_us():  # also if this script is killed: prctl(PR_SET_PDEATHSIG)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class VM:
    def __init__(self, side):
        self.side = side
        self.events = []
        ours, theirs = socket.socketpair()
        log = open(f"{{scratch}}/{{side}}.log", "wb")
        self.file = ours.makefile("rw", buffering=1)
        ours.settimeout(60)
        console = open(f"{{scratch}}/{{side}}.console.log", "wb")
        places = {{"@QMP@": str(theirs.fileno()), "@DIR@": scratch, "@HERE@": here}}
        argv = PLAN["argv"][side]
        for place, value in places.items():
            argv = [a.replace(place, value) for a in argv]
        if PLAN["emulated"][side]:
            run = [shutil.which("qmptests") or PLAN["qmptests"], "vfio", "run"]
            run += ["--like", os.path.join(here, PLAN["emulated"][side])]
            run += ["--log", f"{{scratch}}/{{side}}.vfio.jsonl"]
            argv = [*run, "--control", f"{{scratch}}/{{side}}.vfio.sock", "--", *argv]
        print(side + ":", " ".join(argv), flush=True)
        self.process = subprocess.Popen(argv, env={{**os.environ, **PLAN["env"][side]}},
                                        pass_fds=[theirs.fileno()], stdout=log, stderr=log,
                                        preexec_fn=die_with_us)
        theirs.close()
        self.receive()
        self.execute("qmp_capabilities")

    def receive(self):
        line = self.file.readline()
        if not line:
            sys.stdout.write(open(f"{{scratch}}/{{self.side}}.log").read())
            sys.exit(f"{{self.side}} ended: status {{self.process.wait()}}, see {{scratch}}")
        message = json.loads(line)
        if "event" in message:
            self.events.append(message)
            if message["event"] != "MIGRATION_PASS":
                print(self.side, message["event"], message.get("data", ""), flush=True)
        return message

    def execute(self, command, arguments=None):
        self.file.write(json.dumps({{"execute": command, "arguments": arguments or {{}}}}))
        self.file.flush()
        while True:
            message = self.receive()
            if "return" in message or "error" in message:
                if "error" in message:
                    print(self.side, command, message["error"]["desc"], flush=True)
                return message.get("return")

    def status(self, wanted):
        while time.monotonic() < DEADLINE:
            for event in self.events:
                if event["event"] == "MIGRATION" and event["data"]["status"] in wanted:
                    return event["data"]["status"]
            self.receive()
        sys.exit(f"timed out waiting for {{wanted}}, see {{scratch}}")


vms = {{side: VM(side) for side in ("destination", "source")}}
try:
    # A guest that says when it lives: the migration starts then, as it did originally.
    while PLAN["wait_for_guest"] and time.monotonic() < DEADLINE:
        if os.path.getsize(f"{{scratch}}/source.console.log"):
            break
        time.sleep(0.01)
    for step in PLAN["commands"]:
        vm, command, arguments = vms[step["side"]], step["execute"], step["arguments"]
        text = json.dumps(arguments).replace("@DIR@", scratch)
        if command == "migrate" and "@PORT@" in text:
            listening = vms["destination"].execute("query-migrate")["socket-address"][0]
            text = text.replace("@PORT@", str(listening["port"]))
        if command == "migrate-continue":
            vm.status(["pre-switchover"])
        if command == "migrate_cancel":
            vm.status(["active", "pre-switchover"])
        vm.execute(command, json.loads(text))
    end = vms["source"].status(["completed", "failed", "cancelled"])
    print("source:", vms["source"].execute("query-migrate"), flush=True)
    if end == "completed":
        vms["destination"].status(["completed"])
        print("destination:", vms["destination"].execute("query-status"), flush=True)
finally:
    for vm in vms.values():
        vm.process.terminate()
        vm.process.wait()
print("logs:", scratch)
sys.exit(0 if end == "completed" else 1)
END_OF_SCRIPT
'''


def write(folder: Path, final: Path, record: OutcomeRecord, pending: list[dict[str, Any]]) -> None:
    """Write the script for the last attempt into `folder`, which will be called `final`.

    `pending` are the commands of an attempt that did not end.
    """
    if record.source is None or not record.destinations:
        return
    destination = record.destinations[-1]
    commands = pending or (record.attempts[-1].commands if record.attempts else [])
    plan = {
        "argv": {"source": _argv(record.source, final), "destination": _argv(destination, final)},
        "env": {"source": record.source.environment, "destination": destination.environment},
        "commands": [_portable(c) for c in commands if c["execute"] != "getfd"],
        "emulated": {
            "source": _call_log(record.source),
            "destination": _call_log(destination),
        },
        "qmptests": str(Path(sys.executable).with_name("qmptests")),
        "wait_for_guest": record.source.guest.ready and record.source.guest.counter is not None,
    }
    readable = msgspec.json.format(msgspec.json.encode(plan), indent=1)
    wrapper = record.plan.wrapper
    text = _HEADER.format(
        version=record.qmptests,
        name=record.name,
        result=record.result,
        expected=record.plan.expected,
        error=f": {record.error}".replace("\n", " ") if record.error else "",
        wrapper=f"# both ran under, and do not here: {shlex.join(wrapper)}\n" if wrapper else "",
        emulated=", and qmptests for the emulated devices" if record.source.devices else "",
        source=record.source.build.version_text,
        destination=destination.build.version_text,
    ) + _SCRIPT.format(plan=readable.decode(), timeout=record.plan.timeout_s + 60)
    path = folder / "reproduce.sh"
    path.write_text(text)
    path.chmod(0o755)


def _call_log(side: SideRecord) -> str:
    """The call log, whose first line has the devices; "" for a side that has none emulated."""
    return f"{side.name}.vfio.jsonl" if side.devices else ""


def _argv(side: SideRecord, final: Path) -> list[str]:
    """The command line with its two inherited sockets and its log replaced."""
    out = []
    name = side.name.partition("-")[0]
    for arg in side.argv:
        if arg.startswith("socket,id=qmp,"):
            out.append("socket,id=qmp,fd=@QMP@")
        elif arg.startswith(f"socket,id={USER_MONITOR},"):
            out.append(f"socket,id={USER_MONITOR},path=@DIR@/{name}.sock,server=on,wait=off")
        elif arg.startswith("socket,id=console,"):
            out.append(f"file,id=console,path=@DIR@/{name}.console.log")
        elif arg.endswith(".trace.log"):
            out.append(f"@DIR@/{side.name}.trace.log")
        else:
            out.append(arg.replace(str(final), "@HERE@"))
    return out


def _portable(command: dict[str, Any]) -> dict[str, Any]:
    """The command with this run's address replaced by one that the script chooses."""
    if command["execute"] not in {"migrate", "migrate-incoming"}:
        return command
    arguments = dict(command["arguments"])
    uri = arguments.get("uri", "")
    listening = command["execute"] == "migrate-incoming"
    if uri.startswith("tcp:"):
        arguments["uri"] = "tcp:127.0.0.1:" + ("0" if listening else "@PORT@")
    elif uri:
        arguments["uri"] = "unix:@DIR@/migration.sock"
    elif arguments.get("channels"):
        address = dict(arguments["channels"][0]["addr"])
        if address.get("type") == "inet":
            address["port"] = "0" if listening else "@PORT@"
        else:
            address = {"transport": "socket", "type": "unix", "path": "@DIR@/migration.sock"}
        arguments["channels"] = [{"channel-type": "main", "addr": address}]
    return {**command, "arguments": arguments}
