"""Definition -> command line. Pure: no process, no descriptor, nothing written."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from qmptests.vfio import descriptors
from qmptests.vm import dialect
from qmptests.vm.definition import Definition
from qmptests.vm.devices import VFIO_DRIVER, DeviceProfile

#: The descriptors that every VM inherits.
QMP_FD = 3
CONSOLE_FD = 4
#: The character device of the monitor that a person may use.
USER_MONITOR = "user"
IOMMUFD_ID = "iommufd0"
#: The PCI slot of the first emulated device; QEMU itself fills slots from the lowest.
FIRST_SLOT = 0x10


class Options(msgspec.Struct, frozen=True):
    """What one side adds to the definition."""

    machine: str
    accelerator: str = "tcg"
    incoming: bool = False
    paused: bool = False
    trace: list[str] = []
    devices: tuple[DeviceProfile, ...] = ()
    extra: list[str] = []
    #: Path of a UNIX socket for a second monitor, for a person; "": none.
    monitor_socket: str = ""


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
    if options.monitor_socket:
        path = options.monitor_socket.replace(",", ",,")  # as QEMU's option parser wants it
        argv += ["-chardev", f"socket,id={USER_MONITOR},path={path},server=on,wait=off"]
        argv += dialect.monitor_args(version, USER_MONITOR)
    argv += ["-chardev", f"socket,id=console,fd={CONSOLE_FD}", "-serial", "chardev:console"]
    argv += ["-msg", "timestamp=on", "-D", str(trace_file)]
    for pattern in options.trace:
        argv += ["-trace", pattern]
    for device in definition.devices:
        argv += ["-device", device]
    argv += definition.args
    for number, profile in enumerate(options.devices):
        argv += profile.arguments(number)
    argv += _emulated(options.devices)
    argv += guest_args
    if options.incoming:
        argv += ["-incoming", "defer"]
    if options.paused:
        argv += ["-S"]
    return [*argv, *options.extra]


def _emulated(profiles: Sequence[DeviceProfile]) -> list[str]:
    """The emulated devices' options. Their addresses are fixed: both sides must have the same."""
    argv: list[str] = []
    for number, profile in enumerate(p for p in profiles if p.vfio):
        assert profile.vfio is not None
        own = profile.vfio.device_options
        options = [
            *(VFIO_DRIVER, f"id={emulated_name(number)}"),
            *(f"fd={descriptors.device(number)}", f"iommufd={IOMMUFD_ID}"),
        ]
        if "addr=" not in own:
            options.append(f"addr={FIRST_SLOT + number:#x}")
        if own:
            options.append(own)
        if profile.vfio.plugged:
            argv += ["-device", ",".join(options)]
    if any(p.vfio for p in profiles):
        argv = ["-object", f"iommufd,id={IOMMUFD_ID},fd={descriptors.IOMMUFD}", *argv]
    return argv


def emulated_name(number: int) -> str:
    """The id of a VM's `number`th emulated device, from 0."""
    return f"vf{number}"
