"""`reproduce.sh`: the same two command lines and the same QMP commands, without qmptests.

The script needs Python's standard library only, since it drives two monitors; emulated devices
also `qmptests vfio run`. What differs from the original run, by necessity: the monitors and
consoles are sockets and files in a temporary directory, and a stream over `fd` becomes one over a
UNIX socket.

Nothing of outside is in the syntax of the shell or of Python. The shell's part is constant but for
comments, each one printable line. Python's part is `replay.py` as it is, and the plan is JSON in
ASCII without an apostrophe, in a raw string between apostrophes.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qmptests import pasting, printable
from qmptests.migration import replay
from qmptests.outcome.record import OutcomeRecord, SideRecord
from qmptests.redaction import PLACEHOLDER
from qmptests.vm.command import USER_MONITOR

#: "-" ends the shell's options, so that the folder may begin with one; -I keeps modules out that
#: lie in the working directory.
_SHELL = """\
#!/bin/sh -
{comments}
exec python3 -I - "$0" <<'END_OF_SCRIPT'
{python}
END_OF_SCRIPT
"""

_PYTHON = """\
PLAN = r'''
{plan}
'''
{replay}

sys.exit(main(json.loads(PLAN), sys.argv[1]))"""


def write(folder: Path, final: Path, record: OutcomeRecord, pending: list[dict[str, Any]]) -> None:
    """Write the script for the last attempt into `folder`, which will be called `final`.

    `pending` are the commands of an attempt that did not end.
    """
    text = script(final, record, pending)
    if text:
        path = folder / "reproduce.sh"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o700)


def script(final: Path, record: OutcomeRecord, pending: list[dict[str, Any]]) -> str:
    """The script's text; "" if there was no pair of QEMUs. Arguments as for `write`."""
    if record.source is None or not record.destinations:
        return ""
    source, destination = record.source, record.destinations[-1]
    commands = pending or (record.attempts[-1].commands if record.attempts else [])
    plan: dict[str, Any] = {
        "argv": {"source": _argv(source, final), "destination": _argv(destination, final)},
        "env": {"source": source.environment, "destination": destination.environment},
        "commands": [_portable(c) for c in commands if c["execute"] != "getfd"],
        "emulated": {"source": _call_log(source), "destination": _call_log(destination)},
        "qmptests": str(Path(sys.executable).with_name("qmptests")),
        "wait_for_guest": source.guest.ready and source.guest.counter is not None,
        "timeout_s": record.plan.timeout_s + 60,
    }
    secrets = sorted(set(PLACEHOLDER.findall(json.dumps(plan))))
    plan["secrets"] = secrets
    readable = json.dumps(plan, indent=1).replace("'", "\\u0027")
    own = Path(replay.__file__).read_text(encoding="utf-8")
    return _SHELL.format(
        comments="\n".join(f"# {printable.one_line(line)}" for line in _comments(record, secrets)),
        python=_PYTHON.format(plan=readable, replay=own),
    )


def _comments(record: OutcomeRecord, secrets: Sequence[str]) -> Iterator[str]:
    """What the script is about, a comment each."""
    source, destination = record.source, record.destinations[-1]
    assert source is not None
    error = f": {record.error}" if record.error else ""
    yield f"Reproduces a migration that qmptests {record.qmptests} ran: {record.name}"
    yield f"result then: {record.result} (expected: {record.plan.expected}){error}"
    yield f"source:      {source.build.version_text}"
    yield f"destination: {destination.build.version_text}"
    if record.plan.wrapper:
        yield f"both ran under, and do not here: {pasting.command(record.plan.wrapper)}"
    emulated = ", and qmptests for the emulated devices" if source.devices else ""
    yield f"Needs the same two QEMU builds in the same places, and python3{emulated}."
    if secrets:
        yield "It can't repeat by itself: secrets were left out. Set, as they stood in PLAN below,"
        yield ", ".join(secrets) + ": variables of the environment."
    yield "The logs go to the directory that is printed at the end."
    yield "Exit status 0: completed, 1: not."


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
            out.append(f"socket,id={USER_MONITOR},path=@DIR,@/{name}.sock,server=on,wait=off")
        elif arg.startswith("socket,id=console,"):
            out.append(f"file,id=console,path=@DIR,@/{name}.console.log")
        elif arg == str(final / f"{side.name}.trace.log"):
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
