"""`qmptests vfio`: emulated VFIO devices for any command line, steered and looked at by hand."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from qmptests import pasting
from qmptests.cli.migrate import check_writable
from qmptests.cli.vfio_ctl import ctl
from qmptests.cli.vfio_trace import trace
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.redaction import Redaction
from qmptests.vfio import client, descriptors, interpose, spec, start
from qmptests.vfio.calls_read import CallLog
from qmptests.vfio.profile import to_spec
from qmptests.vfio.spec import Spec
from qmptests.vm import devices
from qmptests.vm.command import emulated_name
from qmptests.vm.vm import SEED

SIDES = ("source", "destination")
_PLACEHOLDER = re.compile(r"@(?:vfio(?P<number>\d+)|iommufd)\b", re.ASCII)


@click.group()
def vfio() -> None:
    """Emulated VFIO devices for any command line."""


vfio.add_command(ctl)
vfio.add_command(trace)


class _AfterDashes(click.Command):
    """A command whose arguments are another's command line: "--" keeps the two apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args and not set(args) & set(ctx.help_option_names):
            raise click.UsageError("put the command to run after '--'", ctx)
        return super().parse_args(ctx, args)


@vfio.command(cls=_AfterDashes)
@click.option(
    "--device",
    multiple=True,
    metavar="PROFILE[,KEY=VALUE...]",
    help="Profile of an emulated device: a name or a TOML (repeatable).",
)
@click.option("--like", default="", metavar="LOG", help="The devices of a call log, instead.")
@click.option(
    "--side", type=click.Choice(SIDES), default=None, help="Whose rules hold (default: both's)."
)
@click.option("--log", default="", metavar="FILE", help="Log of the calls, as JSON lines.")
@click.option(
    "--control", default="", metavar="PATH", help="Socket for `ctl` (default: a new one)."
)
@click.argument("command", metavar="-- COMMAND ARGUMENTS...", nargs=-1, required=True)
def run(
    device: Sequence[str],
    like: str,
    side: str | None,
    log: str,
    control: str,
    command: Sequence[str],
) -> None:
    """Run a command line with emulated VFIO devices.

    In its arguments @vfio0, @vfio1, ... stand for the devices' descriptors and @iommufd for that of
    the iommufd. Standard input and output are the command's, and so is the exit status.

    \b
    Example:
      qmptests vfio run --device busy -- qemu-system-x86_64 -nodefaults -nographic \\
        -object iommufd,id=iommufd0,fd=@iommufd \\
        -device vfio-pci,id=vf0,fd=@vfio0,iommufd=iommufd0
    """
    if bool(like) == bool(device):
        raise InputError("which devices? give --device, once for each, or --like LOG")
    specs = _specs_of_log(Path(like)) if like else _specs(device, side or "")
    argv = substitute(command, len(specs))
    if shutil.which(argv[0]) is None:
        raise InputError(f"{argv[0]}: there is no such command")
    if log:
        check_writable(Path(log))
    path = Path(control) if control else client.own_path()
    client.running()  # what was left of others that were killed goes
    listener = client.listen(path)
    try:
        names = ", ".join(f"{s.name} ({s.profile})" for s in specs)
        _become(
            {
                "argv": argv,
                "shown": Redaction().arguments(argv),
                "devices": [spec.to_json(s) for s in specs],
                "log": log,
                "listen": listener.fileno(),
                "unlink": str(path.absolute()),
            },
            f"qmptests: {names}: `qmptests vfio ctl --socket {pasting.path(str(path))} status`",
        )
    finally:  # an exec leaves no finally behind: it failed
        listener.close()
        path.unlink(missing_ok=True)


def _specs(texts: Sequence[str], side: str) -> list[Spec]:
    """The devices that `--device` says; raises InputError."""
    if len(texts) > descriptors.MOST:
        raise InputError(f"too many devices: {len(texts)}, and {descriptors.MOST} is the most")
    specs = []
    for number, text in enumerate(texts):
        profile = devices.load(text)
        if profile.vfio is None:
            emulated = ", ".join(devices.shipped(vfio=True))
            raise InputError(
                f"device profile '{profile.name}' is no emulated VFIO device; these are: {emulated}"
            )
        name = emulated_name(number)
        specs.append(to_spec(profile.vfio, name, SEED, profile_name=profile.name, side=side))
    return specs


def _specs_of_log(path: Path) -> list[Spec]:
    """The devices of a call log, their rules included; raises InputError."""
    header = CallLog(path).header
    try:
        return [spec.from_json(device) for device in header.devices]
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: its devices are not this version's: {error}") from error


def substitute(words: Sequence[str], count: int) -> list[str]:
    """The words with descriptor numbers for @iommufd and @vfioN; raises InputError."""

    def number(match: "re.Match[str]") -> str:
        if match["number"] is None:
            return str(descriptors.IOMMUFD)
        if int(match["number"]) >= count:
            there = "only @vfio0" if count == 1 else f"@vfio0 to @vfio{count - 1}"
            raise InputError(f"there is no {match[0]}: {there}, one for each --device")
        return str(descriptors.device(int(match["number"])))

    return [_PLACEHOLDER.sub(number, word) for word in words]


def _become(settings: dict[str, Any], told: str) -> NoReturn:
    """Say what is `told` and turn this process into the supervisor."""
    file = os.memfd_create("settings", 0)
    os.write(file, json.dumps(settings).encode())
    os.lseek(file, 0, os.SEEK_SET)
    os.set_inheritable(settings["listen"], True)
    # What comes between here and there waits until the supervisor knows what to do with it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interpose.TAKEN)
    try:
        click.echo(told, err=True)
        argv = [sys.executable, "-I", "-S", start.__file__, str(file)]
        os.execv(argv[0], argv)  # noqa: S606
    except OSError as error:
        raise EnvironmentFailure(f"{sys.executable}: {error.strerror}") from error
    finally:
        os.close(file)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
