"""Definition -> command line. Pure: no process, no descriptor, nothing written."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from qmptests.vm import dialect
from qmptests.vm.definition import Definition

#: The descriptors that every VM inherits.
QMP_FD = 3
CONSOLE_FD = 4


class Options(msgspec.Struct, frozen=True):
    """What one side adds to the definition."""

    machine: str
    accelerator: str = "tcg"
    incoming: bool = False
    paused: bool = False
    trace: list[str] = []
    extra: list[str] = []


def command_line(
    prefix: Sequence[str],
    version: dialect.Version,
    definition: Definition,
    options: Options,
    *,
    guest_args: Sequence[str],
    trace_file: Path,
) -> list[str]:
    """The whole argument vector.

    `prefix` is how the build is started (loader, libraries, binary, firmware folders).
    """
    argv = [
        *prefix,
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", options.machine),
        *("-accel", options.accelerator),
        *("-m", f"{definition.memory_bytes >> 20}M"),
        *("-smp", str(definition.cpus)),
    ]
    if definition.cpu:
        argv += ["-cpu", definition.cpu]
    argv += ["-chardev", f"socket,id=qmp,fd={QMP_FD}"]
    argv += dialect.monitor_args(version, "qmp")
    argv += ["-chardev", f"socket,id=console,fd={CONSOLE_FD}", "-serial", "chardev:console"]
    argv += ["-msg", "timestamp=on", "-D", str(trace_file)]
    for pattern in options.trace:
        argv += ["-trace", pattern]
    for device in definition.devices:
        argv += ["-device", device]
    argv += [*definition.args, *guest_args]
    if options.incoming:
        argv += ["-incoming", "defer"]
    if options.paused:
        argv += ["-S"]
    return [*argv, *options.extra]
