"""`qmptests report`: what runs say, and what has changed between them."""

import sys
from pathlib import Path

import click
import msgspec

from qmptests.cli.migrate import Progress, check_writable
from qmptests.errors import InputError
from qmptests.report import between, mail, page, runs


@click.command()
@click.argument("run", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--compare",
    "others",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Hold this run against the others (repeatable: its repeats).",
)
@click.option("--json", "json_file", default=None, metavar="FILE", help="All figures compared.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="One run as an HTML file that needs no network.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def report(
    run: tuple[Path, ...],
    others: tuple[Path, ...],
    json_file: str | None,
    output: Path | None,
    quiet: bool,
) -> None:
    """Tell a run as a mail takes it, or hold runs against each other, cell by cell.

    RUN is a folder of `qmptests matrix --output` or pytest's `--qemu-results`. With --compare
    several are the repeats of one side: with fewer than four on each side nothing can be told. The
    exit status is 1 if a figure is worse than in RUN.

    \b
    Examples:
      qmptests report qmptests-results/20261123-031500-matrix
      qmptests report qmptests-results/20261123-031500-matrix --output night.html
      for n in 1 2 3 4 5; do qmptests matrix --build ~/old --output old-$n;
                             qmptests matrix --build ~/new --output new-$n; done
      qmptests report old-? --compare new-1 --compare new-2 ...
    """
    if json_file:
        check_writable(Path(json_file))
    if not others:
        if len(run) > 1 or json_file:
            raise InputError("one run is told; several, and --json, go with --compare")
        if output:
            page.check()
            check_writable(output)
            page.write(runs.read(run[0]), output)
            return
        for line in mail.lines(runs.read(run[0])):
            click.echo(line)
        return
    if output:
        raise InputError("--output is a page of one run: it does not go with --compare")
    say = Progress(quiet=quiet)
    try:
        sides = [[runs.read(folder) for folder in folders] for folders in (run, others)]
        found = []
        for side in sides:
            say.step(f"reading {', '.join(one.folder.name for one in side)}")
            found.append(between.repeats(side))
        cells = between.compare(*found)
    finally:
        say.close()
    for one in (one for side in sides for one in side):
        for problem in one.problems:
            click.echo(f"note: {problem}", err=True)
    for line in between.lines(cells):
        click.echo(line)
    if json_file:
        Path(json_file).write_bytes(msgspec.json.format(msgspec.json.encode(cells), indent=1))
    sys.exit(1 if any(cell.worse for cell in cells) else 0)
