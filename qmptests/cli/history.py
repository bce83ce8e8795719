"""`qmptests history`: many nights in one file."""

import sys
from pathlib import Path

import click

from qmptests.errors import InputError
from qmptests.report import history as store
from qmptests.report import runs


@click.group()
def history() -> None:
    """Remember runs, and say what is bad since when."""


@history.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("run", nargs=-1, required=True, type=click.Path(path_type=Path))
def add(file: Path, run: tuple[Path, ...]) -> None:
    """Take run folders into FILE, which is made if it is not there.

    A folder that is known already is read again. To make a lost FILE anew, add all folders.
    """
    read = [runs.read(folder) for folder in run]
    with store.History(file) as remembered:
        for one in read:
            click.echo(f"{one.folder.name}: {remembered.add(one)} tests")


@history.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--all", "everything", is_flag=True, help="Tests that are good now, too.")
def show(file: Path, everything: bool) -> None:
    """What is bad now, and in which run it was so first: `.` is good, `F` bad, the last 40 runs.

    The exit status is 1 if something is bad now.
    """
    if not file.exists():
        raise InputError(f"no history in {file}: qmptests history add {file} RUN... makes one")
    with store.History(file) as remembered:
        for line in store.lines(remembered, everything=everything):
            click.echo(line)
        bad = any(trend.bad for trend in remembered.trends())
    sys.exit(1 if bad else 0)
