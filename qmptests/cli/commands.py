"""The command group: each subcommand is imported when it is called."""

import importlib

import click

from qmptests.cli.empty import refused

#: Subcommand -> the module and the attribute that holds it.
_COMMANDS = {
    "bench": ("qmptests.cli.bench", "bench"),
    "bisect-run": ("qmptests.cli.bisect", "bisect_run"),
    "builds": ("qmptests.cli.builds", "builds"),
    "doctor": ("qmptests.cli.doctor", "doctor"),
    "history": ("qmptests.cli.history", "history"),
    "matrix": ("qmptests.cli.matrix", "matrix"),
    "migrate": ("qmptests.cli.migrate", "migrate"),
    "report": ("qmptests.cli.report", "report"),
    "timeline": ("qmptests.cli.timeline", "timeline"),
    "trace": ("qmptests.cli.trace", "trace"),
    "vfio": ("qmptests.cli.vfio", "vfio"),
}


class _LazyGroup(click.Group):
    """Imports a subcommand's module on use: `builds list` need not pay for `migrate`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return refused(command)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qmptests")
def cli() -> None:
    """Integration tests for QEMU live migration: real builds, real VMs, everything observed.

    \b
    First steps:
      qmptests builds add debian:trixie debian:trixie-backports
      qmptests migrate --source debian:trixie --destination debian:trixie-backports

    Exit status: 0 done and as expected, 1 the thing under test failed, 2 bad input,
    3 the environment failed, 130 interrupted.
    """
