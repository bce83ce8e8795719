"""`qmptests report`: what runs say, and what has changed between them."""

import sys
from pathlib import Path
from typing import Any

import click

from qmptests import files, jsontext
from qmptests.cli.migrate import Progress, check_writable
from qmptests.errors import InputError
from qmptests.report import between, html, mail, page, page_of_two, runs


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
@click.option(
    "--figure",
    "figures",
    multiple=True,
    metavar="PATTERN",
    help="Compare only such figures, as 'downtime' or 'vf0 *' (repeatable).",
)
@click.option("--bisect", is_flag=True, help="Exit status 125 if it can't be told.")
@click.option("--json", "json_file", default=None, metavar="FILE", help="All figures compared.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="An HTML file that needs no network, in place of the text.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def report(**options: Any) -> None:
    """Tell a run as a mail takes it, or hold runs against each other, cell by cell.

    RUN is a folder of `qmptests matrix --output` or pytest's `--qemu-results`. With --compare
    several are the repeats of one side: with fewer than four on each side no cell can be told by
    itself, but six cells and more can be told together.

    \b
    Exit status of a comparison: 0 not worse, or it can't be told; 1 a figure is
    worse than in RUN; with --bisect 125 if it can't be told, so `git bisect run`
    skips the commit, and 128 for what would wrongly blame it, such as bad input.

    \b
    Examples:
      qmptests report qmptests-results/20261123-031500-matrix
      qmptests report qmptests-results/20261123-031500-matrix --output night.html
      for n in 1 2 3 4 5; do qmptests matrix --build ~/old --output old-$n;
                             qmptests matrix --build ~/new --output new-$n; done
      qmptests report old-? --compare new-1 --compare new-2 ... --figure downtime
    """
    if options["json_file"]:
        check_writable(Path(options["json_file"]))
    if options["output"]:
        html.check()
        check_writable(options["output"])
    if options["others"]:
        sys.exit(_compared(options))
    if len(options["run"]) > 1 or options["json_file"] or options["figures"] or options["bisect"]:
        raise InputError(
            "one run is told; several, --json, --figure and --bisect go with --compare"
        )
    told = runs.read(options["run"][0])
    if options["output"]:
        page.write(told, options["output"])
        return
    for line in mail.lines(told):
        click.echo(line)


def _compared(options: dict[str, Any]) -> int:
    say = Progress(quiet=options["quiet"])
    try:
        sides = [[runs.read(one) for one in options[name]] for name in ("run", "others")]
        found = []
        for side in sides:
            say.step(f"reading {', '.join(one.folder.name for one in side)}")
            found.append(between.repeats(side, options["figures"]))
        compared = between.compare(*found)
    finally:
        say.close()
    for one in (one for side in sides for one in side):
        for problem in one.problems:
            click.echo(f"note: {problem}", err=True)
    if options["output"]:
        names = [", ".join(one.folder.name for one in side) for side in sides]
        page_of_two.write(compared, names[0], names[1], options["output"])
    else:
        for line in between.lines(compared):
            click.echo(line)
    if options["json_file"]:
        files.write(Path(options["json_file"]), jsontext.encode(compared))
    return gate(worse=compared.worse, told=compared.told, bisect=options["bisect"])


def gate(*, worse: bool, told: bool, bisect: bool) -> int:
    """The exit status of a comparison, as `git bisect run` takes it if `bisect`."""
    if worse:
        return 1
    return 125 if bisect and not told else 0
