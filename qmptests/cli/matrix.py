"""`qmptests matrix`: many migrations, each a test of pytest's; a live table, then what happened."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

import qmptests
from qmptests import jsontext
from qmptests.cli.builds import progress_line
from qmptests.cli.migrate import check_writable, default_folder, results_mode, words
from qmptests.errors import EnvironmentFailure, TestedFailure
from qmptests.matrix import request, results, selection, store, summary
from qmptests.matrix.results import RunResults, Verdict

MODULE = "qmptests.suites.compat.test_cells"

#: Our options that may be repeated -> pytest's.
_LISTS = {
    "build": "--qemu-build",
    "source": "--qemu-source",
    "destination": "--qemu-destination",
    "machine": "--qemu-machine",
    "vm": "--qemu-vm",
    "device": "--qemu-device",
    "transport": "--qemu-transport",
    "capabilities": "--qemu-capabilities",
    "cell": "--qemu-cell",
    "known_issues": "--qemu-known-issues",
}
#: Those with one value.
_VALUES = {
    "accel": "--qemu-accel",
    "select": "--qemu-matrix",
    "results_mode": "--qemu-results-mode",
    "args": "--qemu-args",
    "source_args": "--qemu-source-args",
    "destination_args": "--qemu-destination-args",
    "wrapper": "--qemu-wrapper",
    "maxfail": "--maxfail",
    "junit": "--junitxml",
    "k": "-k",
    "workers": "-n",
}


def _workers(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value == "auto" or (value.isascii() and value.isdigit()):
        return value
    raise click.BadParameter(f"'{value}' is neither a number nor auto")


@click.command()
@click.option(
    "--build", multiple=True, metavar="SPEC", help="From each of these to each (repeatable)."
)
@click.option("--source", multiple=True, metavar="SPEC", help="Only from these (repeatable).")
@click.option("--destination", multiple=True, metavar="SPEC", help="Only to these (repeatable).")
@click.option(
    "--machine",
    multiple=True,
    metavar="TYPE",
    help="Type, pattern ('pc-q35-*') or family: the newest in common (default: all versioned).",
)
@click.option(
    "--vm", multiple=True, metavar="VM", help="VM definition: a name or a TOML (default: dirtier)."
)
@click.option(
    "--device",
    multiple=True,
    metavar="PROFILE[,KEY=VALUE...]",
    help="Device profile: a name or a TOML (default: none).",
)
@click.option("--transport", multiple=True, metavar="KIND", help="unix, tcp or fd (default: unix).")
@click.option(
    "--capabilities",
    multiple=True,
    metavar="SET",
    help="As one: multifd+return-path (default: none).",
)
@click.option("--accel", default="tcg", show_default=True, help="Accelerator, as for -accel.")
@click.option("--no-deprecated", is_flag=True, help="Leave deprecated machine types out.")
@click.option("--same-build", is_flag=True, help="Pairs of a build with itself as well.")
@click.option(
    "--select",
    type=click.Choice(selection.TIERS),
    default="smoke",
    show_default=True,
    help="How many of the cells that can exist.",
)
@click.option(
    "--cell", multiple=True, metavar="EXPR", help="Of these only: 'source=10.0*,machine=*q35*'."
)
@click.option("-k", metavar="EXPR", help="Of these only, as for pytest: 'q35 and not 7.2'.")
@click.option(
    "--known-issues",
    multiple=True,
    metavar="FILE",
    help="TOML of failures that are expected (repeatable).",
)
@click.option(
    "-n",
    "--workers",
    default="0",
    metavar="N|auto",
    callback=_workers,
    help="So many processes at a time (default: one cell at a time).",
)
@click.option("-x", "exitfirst", is_flag=True, help="Stop at the first failure.")
@click.option("--maxfail", type=click.IntRange(1), metavar="N", help="Stop after N failures.")
@click.option("--args", default="", help="More QEMU options for both sides.")
@click.option("--source-args", default="", help="More QEMU options for the source.")
@click.option("--destination-args", default="", help="More QEMU options for the destination.")
@click.option(
    "--wrapper",
    default="",
    metavar="COMMAND",
    help="Before each QEMU's command line, such as 'valgrind'; no deadlines then.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="The run folder (default: a new one in qmptests-results/).",
)
@results_mode
@click.option("--junit", type=click.Path(), metavar="FILE", help="Also a JUnit XML file.")
@click.option("--list", "only_list", is_flag=True, help="Say what would be run, and run nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="results.json (--list: cells.json) on stdout."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def matrix(**options: Any) -> None:
    """Migrate between many builds, on many machine types, with many devices.

    A SPEC is a name from `qmptests builds list`, debian:SUITE, the path of a binary, or a QEMU
    source or build tree; by default all builds that were added. With --source or --destination
    alone, the other side is each --build, or each that was added.

    Every axis has exactly the values that are named, the first being its ordinary one: `--device
    usb` puts one into each cell, `--device none --device usb` has cells without it too.

    \b
    --select smoke     each pair once per machine family, on the newest type, everything else
                       ordinary; and each further value once
             pairwise  also each two values of two axes together
             full      all that can exist

    \b
    Examples:
      qmptests matrix --list
      qmptests matrix --build debian:trixie --build ~/qemu/build --select full -n 2
      qmptests matrix --source debian:bookworm --machine q35 --device none --device virtio-net

    Exit status: 0 all that ran passed, or failed as a known issue says; 1 something else failed,
    or nothing ran; 2 bad input; 3 the environment failed, and nothing else; 130 interrupted.
    """
    with contextlib.nullcontext(_silent) if options["quiet"] else progress_line() as progress:
        if options["only_list"]:
            found, _ = request.matrix(_asked(options), options["select"], options["cell"], progress)
        else:
            # Builds are fetched, and what is wrong is found, before pytest takes the terminal.
            request.axes(_asked(options), progress)
    if options["only_list"]:
        _list(found, as_json=options["as_json"])
        return
    for name in ("args", "source_args", "destination_args", "wrapper"):
        words(options, name)
    if options["junit"]:
        check_writable(Path(options["junit"]))
    _run(options)


def _silent(_: str) -> None:
    """Progress that nobody wants to see."""


def _asked(options: dict[str, Any]) -> request.Request:
    return request.Request(
        builds=options["build"],
        sources=options["source"],
        destinations=options["destination"],
        machines=options["machine"],
        vms=options["vm"],
        devices=options["device"],
        transports=options["transport"],
        capabilities=options["capabilities"],
        accelerator=options["accel"],
        deprecated=not options["no_deprecated"],
        same_build=options["same_build"],
    )


def _list(found: store.Matrix, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(store.encode(found))
        return
    for cell in found.selected:
        click.echo(cell.id)
    cells = summary.number_of(len(found.selected), "cell")
    click.echo(f"{cells} ({found.select}) of {len(found.live)} that can exist")
    for line in summary.pruned(found):
        click.echo(line)


def arguments(options: dict[str, Any], folder: Path) -> list[str]:
    """What pytest is called with: nothing in the user's working directory disturbs it."""
    # "=" lets a value begin with "-", as QEMU's options do.
    out = [f"{flag}={value}" for name, flag in _LISTS.items() for value in options[name]]
    for name, flag in _VALUES.items():
        if options[name] not in (None, ""):
            out += [flag, str(options[name])] if len(flag) == 2 else [f"{flag}={options[name]}"]
    out += ["--qemu-no-deprecated"] * options["no_deprecated"] + ["-x"] * options["exitfirst"]
    out += ["--qemu-same-build"] * options["same_build"]
    # Items are named from the root, and have the same names wherever we are installed.
    root = Path(qmptests.__file__).parents[1]
    isolated = ["-c", os.devnull, f"--rootdir={root}", "--noconftest"]
    return [
        *("--pyargs", MODULE),
        *out,
        *("--dist=worksteal", "-p", "no:cacheprovider", "-ra", f"--qemu-results={folder}"),
        *isolated,
    ]


def _run(options: dict[str, Any]) -> NoReturn:
    from qmptests.cli.live import Live  # noqa: PLC0415 - `--list` and `--help` need no pytest
    from qmptests.cli.session import Session  # noqa: PLC0415

    asked = arguments(options, options["output"] or default_folder("matrix"))
    asked += ["--qemu-results-numbered"] * (options["output"] is None)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    session, live = Session(), Live(quiet=options["quiet"])
    try:
        session.run(asked, live)
    finally:
        live.close()
    if session.folder and session.matrix and session.results:
        folder = options["output"] or Path(os.path.relpath(session.folder))
        for line in summary.lines(session.matrix, session.results, folder):
            click.echo(line, err=options["as_json"])
        if options["as_json"]:
            sys.stdout.buffer.write(jsontext.escaped((folder / results.RESULTS).read_bytes()))
    if session.interrupted:
        raise KeyboardInterrupt
    assert session.results is not None
    sys.exit(status(session.results))


def status(run: RunResults) -> int:
    """The exit status of a run that was not interrupted."""
    bad = [item for item in run.items if item.verdict.bad]
    if run.exit == EnvironmentFailure.exit_code or (
        bad and all(item.verdict is Verdict.ERROR for item in bad)
    ):
        return EnvironmentFailure.exit_code
    ran = any(item.verdict.ran for item in run.items)
    return 0 if ran and not bad and not run.findings else TestedFailure.exit_code
