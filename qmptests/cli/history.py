"""`qmptests history`: many nights in one file."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from qmptests import files
from qmptests.cli.migrate import Progress, check_writable
from qmptests.errors import InputError
from qmptests.report import history as store
from qmptests.report import html, page_of_nights, runs
from qmptests.report.runs import Run

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def history() -> None:
    """Remember runs, and say what is bad since when."""


@history.command()
@click.argument("file", type=_FILE)
@click.argument("run", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def add(file: Path, run: tuple[Path, ...], quiet: bool) -> None:
    """Take run folders into FILE, which is made if it is not there.

    A folder that is known already is read again.
    """
    read = [runs.read(folder) for folder in run]
    with store.History(file) as remembered:
        _add(remembered, read, quiet)


def _add(remembered: store.History, read: Sequence[Run], quiet: bool) -> None:
    say = Progress(quiet=quiet)
    for number, one in enumerate(read, 1):
        say.step(f"{number}/{len(read)} {one.folder}")
        count = remembered.add(one)
        say.close()
        click.echo(f"{one.folder.name}: {count} tests")
        for problem in one.problems:
            click.echo(f"note: {problem}", err=True)


@history.command()
@click.argument("file", type=_FILE)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def rebuild(file: Path, quiet: bool) -> None:
    """Make FILE anew of the run folders that it knows, of whatever format it is.

    A folder that is gone, or no run any more, is a note and is not in the new file. The old one
    stays as it is until the new one is whole.
    """
    _there(file)
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with files.explained(new):
        new.open("xb").close()  # a link that somebody puts there meanwhile is not written through
    try:
        with store.History(new) as remembered:
            read = []
            for folder in store.folders(file):
                try:
                    read.append(runs.read(folder))
                except InputError as error:
                    click.echo(f"note: {error}", err=True)
            if not read:
                raise InputError(f"none of the run folders that {file} knows is there: it is left")
            _add(remembered, read, quiet)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


@history.command()
@click.argument("file", type=_FILE)
@click.option("--all", "everything", is_flag=True, help="Tests that are good now, too.")
@click.option(
    "--output",
    type=_FILE,
    default=None,
    metavar="HTML",
    help="An HTML file that needs no network, with the trends as pictures, in place of the text.",
)
def show(file: Path, everything: bool, output: Path | None) -> None:
    """What is bad now, and in which run it was so first: `.` is good, `F` bad, the last 40 runs.

    Also what has become slower, since which run. The exit status is 1 if something is bad now.
    """
    if output:
        html.check()
        check_writable(output)
    _there(file)
    with store.History(file) as remembered:
        if output:
            page_of_nights.write(remembered, output)
        else:
            for line in store.lines(remembered, everything=everything):
                click.echo(line)
        bad = any(trend.bad for trend in remembered.trends())
    sys.exit(1 if bad else 0)


def _there(file: Path) -> None:
    if not file.exists():
        raise InputError(f"no history in {file}: qmptests history add {file} RUN... makes one")
