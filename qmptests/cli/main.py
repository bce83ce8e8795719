"""The `qmptests` command: finds the subcommand, prints errors, sets the exit status."""

import importlib
import os
import sys

import click

from qmptests.errors import QmptestsError

#: Subcommand -> the module and the attribute that holds it; imported when it is called.
_COMMANDS = {
    "builds": ("qmptests.cli.builds", "builds"),
    "doctor": ("qmptests.cli.doctor", "doctor"),
    "migrate": ("qmptests.cli.migrate", "migrate"),
    "trace": ("qmptests.cli.trace", "trace"),
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
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qmptests")
def cli() -> None:
    """Integration tests for QEMU live migration: real builds, real VMs, everything observed.

    \b
    First steps:
      qmptests builds add debian:trixie debian:trixie-backports
      qmptests migrate --source debian:trixie --destination debian:trixie-backports

    Exit status: 0 done and as expected, 1 the thing under test failed, 2 bad input,
    3 the environment failed.
    """


def main() -> None:
    """Console entry point."""
    try:
        code = cli.main(standalone_mode=False)
    except QmptestsError as error:
        fail(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort) as error:
        print("qmptests: interrupted", file=sys.stderr)  # noqa: T201
        print_notes(error)
        code = 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing more to say, to nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: QmptestsError) -> None:
    """One clear line, and below it the evidence: last log lines, and where the rest is."""
    print(f"qmptests: error: {error}", file=sys.stderr)  # noqa: T201
    for line in getattr(error, "tail", []):
        print(f"  | {line}", file=sys.stderr)  # noqa: T201
    print_notes(error)


def print_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", []):
        print(f"  {note}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
