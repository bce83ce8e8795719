"""Ask a QEMU binary what it is and can do: it runs once, and QMP answers.

The commands are those of QEMU's qapi/*.json. Where versions differ: `query-accelerators` exists
since 11.0 only, so accelerators are the QOM types below `accel`; what `migrate-set-parameters`
takes is read from the schema, since `query-migrate-parameters` leaves out what is not set.
"""

import mmap
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qmptests import eventloop
from qmptests.builds.facts import Facts, Machine
from qmptests.builds.locate import Located
from qmptests.builds.registry import version_order
from qmptests.errors import EnvironmentFailure, InputError, TestedFailure
from qmptests.hosts import ProcessDied, WaitTimeout, local
from qmptests.hosts.scratch import scratch
from qmptests.qmp import CommandError, Monitor, MonitorLost

QMP_FD = 3

#: Seconds. QEMU greets in 0.1; one under valgrind or on a loaded machine takes long.
GREETING_S = 30.0


def probe(located: Located) -> Facts:
    """Run the binary and ask; raises InputError if it is no QEMU or crashes."""
    return eventloop.run(_probe(located))


async def _probe(located: Located) -> Facts:
    binary = located.binary
    ours, theirs = socket.socketpair()
    async with scratch() as folder:
        try:
            with theirs:
                process = await local().spawn(
                    binary.name,
                    [*located.argv, *_ARGUMENTS],
                    env=located.env,
                    fds={QMP_FD: theirs.fileno()},
                    output=folder / "stderr",
                )
        except EnvironmentFailure as error:
            ours.close()
            if isinstance(error.__cause__, OSError) and (folder / "stderr").exists():
                why = error.__cause__.strerror
                raise InputError(f"{binary} can't be executed: {why}") from error
            raise
        monitor = Monitor(binary.name, alive=[process])
        try:
            await monitor.connect(ours, timeout=GREETING_S)
            return await _ask(monitor, binary)
        except ProcessDied as error:
            last = f": {error.tail[-1]}" if error.tail else ""
            raise InputError(
                f"{binary} is no working QEMU: it {error.status} instead of answering QMP{last}"
            ) from error
        except (MonitorLost, WaitTimeout, CommandError) as error:
            raise InputError(f"{binary} is no working QEMU: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{binary} is no working QEMU: its answers make no sense") from error
        finally:
            await process.kill()
            await monitor.close()


#: A machine of nothing at all, and a monitor.
_ARGUMENTS = (
    *("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"),
    *("-chardev", f"socket,id=qmp,fd={QMP_FD}", "-mon", "chardev=qmp,mode=control"),
)


async def _ask(monitor: Monitor, binary: Path) -> Facts:
    version = await monitor.execute("query-version")
    numbers = version["qemu"]
    number = (numbers["major"], numbers["minor"], numbers["micro"])
    package = version.get("package", "").strip().strip("()")
    text = ".".join(str(part) for part in number)
    schema = await monitor.execute("query-qmp-schema")
    names = {
        kind: frozenset(e["name"] for e in schema if e["meta-type"] == kind)
        for kind in ("command", "event")
    }
    devices = await monitor.execute("qom-list-types", {"implements": "device", "abstract": False})
    accelerators = await monitor.execute("qom-list-types", {"implements": "accel"})
    capabilities = await monitor.execute("query-migrate-capabilities")
    trace_events = await monitor.execute("trace-event-get-state", {"name": "*"})
    return Facts(
        version=number,
        version_text=f"{text} ({package})" if package else text,
        target=(await monitor.execute("query-target"))["arch"],
        machines=_machines(await monitor.execute("query-machines")),
        devices=frozenset(item["name"] for item in devices),
        capabilities=frozenset(item["capability"] for item in capabilities),
        parameters=_settable_parameters(schema),
        commands=names["command"],
        events=names["event"],
        # Compiled out is as good as absent: it can't be switched on, so nothing may count it.
        trace_events=frozenset(
            item["name"] for item in trace_events if item["state"] != "unavailable"
        ),
        trace_backends=await _trace_backends(monitor, binary),
        accelerators=sorted(
            item["name"].removesuffix("-accel")
            for item in accelerators
            if item["name"].endswith("-accel")
        ),
    )


def _machines(answer: Iterable[Mapping[str, Any]]) -> list[Machine]:
    machines = [
        Machine(
            name=item["name"],
            alias=item.get("alias"),
            deprecated=item.get("deprecated", False),
            is_default=item.get("is-default", False),
            cpu_max=item["cpu-max"],
            default_ram_id=item.get("default-ram-id"),
        )
        for item in answer
    ]
    return sorted(machines, key=lambda machine: version_order(machine.name))


def _settable_parameters(schema: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    entities = {entity["name"]: entity for entity in schema}
    command = entities.get("migrate-set-parameters")
    if command is None:
        return frozenset()
    return frozenset(member["name"] for member in entities[command["arg-type"]]["members"])


async def _trace_backends(monitor: Monitor, binary: Path) -> list[str]:
    """The trace backends compiled in; QMP doesn't tell, but each leaves its mark.

    `log` adds an item to the log's help, `simple` a monitor command; the others write to a place
    whose name is in the binary. `syslog` can't be seen.
    """

    async def ask_help(topic: str) -> str:
        try:
            line = f"help {topic}"
            return str(await monitor.execute("human-monitor-command", {"command-line": line}))
        except TestedFailure:
            return ""  # built without the human monitor

    found = []
    if "trace:PATTERN" in await ask_help("log"):
        found.append("log")
    if (await ask_help("trace-file")).startswith("trace-file"):
        found.append("simple")
    marks = {"dtrace": b".note.stapsdt", "ftrace": b"trace_marker", "ust": b"lttng_ust_"}
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        found += [name for name, mark in marks.items() if content.find(mark) >= 0]
    return found
