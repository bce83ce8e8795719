"""`qmptests migrate`: one migration now. Live progress, then what happened."""

import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qmptests import builds, downtime, files, jsontext, places
from qmptests.cli import terminal
from qmptests.errors import InputError
from qmptests.migration.observers import Observer, Phase
from qmptests.migration.pause import PauseOnFailure
from qmptests.migration.plan import CANCEL_AT, Plan
from qmptests.migration.run import Run
from qmptests.migration.run import migrate as run_migration
from qmptests.migration.settings import parse_assignment, parse_capability
from qmptests.migration.transport import KINDS
from qmptests.migration.verdict import exit_code
from qmptests.outcome import folder, modes, summary
from qmptests.outcome.record import Result
from qmptests.redaction import Redaction
from qmptests.units import format_size
from qmptests.vm import definition as definitions
from qmptests.vm import devices

if TYPE_CHECKING:
    from qmptests.outcome import Outcome

RESULTS = Path("qmptests-results")


def _mode(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    modes.parse(value)
    return value


#: Option of each command that writes results; its value is the text, for `modes.parse`.
results_mode = click.option(
    "--results-mode",
    default="0700",
    show_default=True,
    metavar="MODE",
    callback=_mode,
    help="Who may read the results, as for chmod.",
)


@click.command()
@click.option("--source", default="", metavar="BUILD", help="Where the VM starts.")
@click.option(
    "--destination", default="", metavar="BUILD", help="Where it goes (default: as --source)."
)
@click.option(
    "--machine", default="", help="Machine type (default: the newest that both builds know)."
)
@click.option("--vm", default="dirtier", show_default=True, help="VM definition: a name or a TOML.")
@click.option(
    "--device",
    multiple=True,
    metavar="PROFILE[,KEY=VALUE...]",
    help="Device profile: a name or a TOML (repeatable).",
)
@click.option("--accel", default="tcg", show_default=True, help="Accelerator, as for -accel.")
@click.option(
    "--capability", multiple=True, metavar="NAME[=off]", help="Migration capability (repeatable)."
)
@click.option(
    "--parameter", multiple=True, metavar="NAME=VALUE", help="Migration parameter (repeatable)."
)
@click.option("--transport", type=click.Choice(KINDS), default="unix", show_default=True)
@click.option("--channels", is_flag=True, help="Address as 'channels' (QEMU 8.2) instead of 'uri'.")
@click.option("--trace", multiple=True, metavar="PATTERN", help="More trace events (repeatable).")
@click.option("--cancel-at", type=click.Choice(CANCEL_AT), default=None, help="Cancel there.")
@click.option(
    "--retries", type=click.IntRange(0, 1000), default=0, help="After a cancel or a failure."
)
@click.option(
    "--expect",
    type=click.Choice([r.value for r in Result]),
    default=Result.COMPLETED.value,
    show_default=True,
    help="The result for which the exit status is 0.",
)
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds an attempt.")
@click.option("--source-args", default="", help="More QEMU options for the source.")
@click.option("--destination-args", default="", help="More QEMU options for the destination.")
@click.option(
    "--wrapper",
    default="",
    metavar="COMMAND",
    help="Before each QEMU's command line, such as 'gdb --args'; no deadlines then.",
)
@click.option(
    "--pause-on-failure", is_flag=True, help="Leave both QEMUs as they are until Enter is pressed."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help=f"Folder for the evidence (default: a new one in {RESULTS}/).",
)
@results_mode
@click.option(
    "--json",
    "json_file",
    type=click.Path(),
    default=None,
    help="Copy of the outcome; - for stdout.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def migrate(**options: Any) -> None:
    """Migrate one VM between two real QEMUs, and say what happened.

    BUILD is a name from `qmptests builds list`, debian:SUITE, the path of a binary, or a QEMU
    source or build tree; by default the qemu-system-* on PATH.

    \b
    Examples:
      qmptests migrate --source debian:trixie --destination debian:trixie-backports
      qmptests migrate --destination ~/qemu/build --capability multifd --transport tcp
      qmptests migrate --vm none --parameter downtime-limit=50 --trace 'ram_*'
    """
    say = Progress(quiet=options["quiet"])
    json_file = options["json_file"] or ""
    if json_file not in {"", "-"}:
        check_writable(Path(json_file))
    plan = plan_from(options, say)
    observers = [say, PauseOnFailure(say.line)] if plan.pause_on_failure else [say]
    mode = modes.parse(options["results_mode"])

    def run(output: Path) -> "Outcome":
        return run_migration(plan, output, observers, mode=mode)

    try:
        if options["output"]:
            outcome = run(options["output"])
        else:
            outcome = folder.first_free(default_folder(plan.name), run)
    finally:
        say.close()
    for line in (*downtime.explained(outcome), *summary.lines(outcome)):
        click.echo(line, err=json_file == "-")
    if json_file:
        _copy_json(outcome, json_file)
    sys.exit(exit_code(outcome.record.result, plan.expected, outcome.record.last_phase))


def default_folder(name: str) -> Path:
    """A folder of this moment and name, which another one that began in this second may have.

    Raises InputError where others could replace what is written into it.
    """
    if how := places.exposed(RESULTS, sticky=True):
        raise InputError(f"{how}: name another folder for the results (--output)")
    return RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"


def plan_from(options: dict[str, Any], say: "Progress") -> Plan:
    """The plan that the command line describes; raises InputError."""
    source = builds.resolve(options["source"], progress=say.step)
    destination = source
    if options["destination"]:
        destination = builds.resolve(options["destination"], progress=say.step)
    plan = Plan(
        source=source,
        destination=destination,
        definition=definitions.load(options["vm"]),
        machine=options["machine"],
        devices=tuple(devices.load(text) for text in options["device"]),
        accelerator=options["accel"],
        capabilities=dict(parse_capability(c) for c in options["capability"]),
        parameters=dict(parse_assignment(p) for p in options["parameter"]),
        transport=options["transport"],
        channels=options["channels"],
        trace=tuple(options["trace"]),
        expected=Result(options["expect"]),
        timeout_s=options["timeout"],
        source_args=words(options, "source_args"),
        destination_args=words(options, "destination_args"),
        cancel_at=options["cancel_at"] or "",
        retries=options["retries"],
        wrapper=words(options, "wrapper"),
        pause_on_failure=options["pause_on_failure"],
    )
    plan.check()
    return plan


def words(options: dict[str, Any], name: str) -> tuple[str, ...]:
    """A command line as a shell would split it."""
    import shlex  # noqa: PLC0415

    try:
        return tuple(shlex.split(options[name]))
    except ValueError as error:
        option = name.replace("_", "-")
        said = Redaction().text(options[name])
        raise InputError(f"--{option} {said!r}: {error}") from error


class Progress(Observer):
    """One line on stderr that is rewritten on a terminal; a line for each step elsewhere."""

    interval_s = 0.5

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._shown = False
        self._last = ""

    def step(self, text: str) -> None:
        if self._quiet:
            return
        if self._terminal:
            terminal.rewrite(text)
            self._shown = True
        elif (head := text.partition(",")[0]) != self._last:
            # In a log one line for each step will do; its figures are for those who watch.
            self._last = head
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def line(self, text: str) -> None:
        """A line that stays."""
        self.close()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self._shown:
            terminal.clear()
            self._shown = False

    async def reached(self, phase: Phase, run: Run) -> None:
        if self._terminal:
            self.step(f"{run.plan.name}: {phase}")

    async def progress(self, status: dict[str, Any], run: Run) -> None:
        ram = status.get("ram", {})
        left = status.get("remaining", ram.get("remaining", 0))
        self.step(
            f"{run.plan.name}: {status.get('status', '?')}, "
            f"{format_size(ram.get('transferred', 0))} sent at {ram.get('mbps', 0):.0f} Mbit/s, "
            f"{format_size(left)} left, pass {ram.get('dirty-sync-count', 0)}, "
            f"expected downtime {status.get('expected-downtime', '?')} ms"
        )


def check_writable(path: Path) -> None:
    """Raise InputError for what is known to fail at the end of a migration."""
    if link := places.foreign_link(path):
        raise InputError(f"cannot write {path}: {link}")
    place = path if path.exists() else path.parent
    if path.is_dir():
        problem = errno.EISDIR
    elif not place.exists():
        problem = errno.ENOENT
    elif place is not path and not place.is_dir():
        problem = errno.ENOTDIR
    elif not os.access(place, os.W_OK):
        problem = errno.EACCES
    else:
        return
    raise InputError(f"cannot write {path}: {os.strerror(problem)}")


def _copy_json(outcome: "Outcome", where: str) -> None:
    data = (outcome.folder / "outcome.json").read_bytes()
    if where == "-":
        sys.stdout.buffer.write(jsontext.escaped(data))
        return
    files.write(Path(where), data)
