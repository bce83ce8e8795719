"""`qmptests timeline`: what all witnesses saw of a migration, as one time line."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import click
import msgspec

from qmptests import files, jsontext, printable
from qmptests.downtime import analysis, breakdown, clocks, perfetto, sources
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.sources import Evidence
from qmptests.downtime.timeline import Timeline
from qmptests.errors import InputError


@click.command()
@click.argument("outcome", type=click.Path(path_type=Path))
@click.option(
    "--side", "sides", multiple=True, metavar="SIDE", help="Of this side only: source, destination."
)
@click.option("--device", default="", metavar="NAME", help="About this device only, such as vf0.")
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    type=click.Choice([str(witness) for witness in Witness]),
    help="Seen by this witness only; may be given more than once.",
)
@click.option(
    "--downtime",
    "summary",
    is_flag=True,
    help="Not the time line, but why precopy took so long and where the downtime went.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, or the analysis.")
@click.option(
    "--perfetto",
    "perfetto_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the time line for ui.perfetto.dev or chrome://tracing to FILE instead.",
)
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="The Nth attempt, from 1, if there were retries; else the last one.",
)
def timeline(
    outcome: Path,
    sides: tuple[str, ...],
    device: str,
    witnesses: tuple[str, ...],
    summary: bool,
    as_json: bool,
    perfetto_file: Path | None,
    attempt: int | None,
) -> None:
    """What QEMU, its devices and the guest did in one migration, as a time line.

    OUTCOME is the folder of one migration. Times are milliseconds since the start of the attempt,
    on the source's clock.
    """
    if summary and (sides or device or witnesses or perfetto_file):
        raise InputError("--downtime is about all that was seen: it goes with --json only")
    if perfetto_file and as_json:
        raise InputError("--perfetto writes JSON of its own: leave --json out")
    evidence = sources.open(outcome, -1 if attempt is None else attempt - 1)
    _check(evidence, sides, device)
    if summary:
        _summary(evidence, as_json)
    else:
        offset = clocks.measure(evidence)
        line = Timeline(evidence, offset.destination_us)
        batches = line.batches(sides or None, [Witness(w) for w in witnesses] or None, device)
        if perfetto_file:
            _perfetto(batches, evidence, offset.destination_us, perfetto_file)
        else:
            for text in (_json if as_json else _text)(batches, evidence):
                click.echo(text)
        _tell([*evidence.problems, *offset.problems])
    if not evidence.anything:
        raise InputError(f"no log in {outcome} can be read")


def _check(evidence: Evidence, sides: Iterable[str], device: str) -> None:
    for side in sides:
        if side not in evidence.sides and side not in evidence.sides.values():
            known = ", ".join(evidence.sides.values())
            raise InputError(f"{evidence.folder} has no side '{side}': there are {known}")
    names = {name for role in evidence.sides for name in evidence.devices(role)}
    if device and names and device not in names:
        raise InputError(f"there is no device '{device}': there are {', '.join(sorted(names))}")


def _summary(evidence: Evidence, as_json: bool) -> None:
    made = analysis.of(evidence)
    if as_json:
        click.echo(jsontext.encode(made), nl=False)
    else:
        for text in analysis.lines(made):
            click.echo(text)
    _tell(made.problems)


def _tell(problems: Iterable[str]) -> None:
    for problem in problems:
        click.echo(f"qmptests: {problem}", err=True)


def _perfetto(
    batches: Iterable[list[Moment]], evidence: Evidence, offset_us: int, file: Path
) -> None:
    """With the critical path, if there is one."""
    moments = chain.from_iterable(batches)
    first = next(moments, None)
    if first is None:
        return
    made = breakdown.of(evidence, offset_us)
    with files.writing(file) as stream:
        perfetto.write(chain([first], moments), stream, made)
    click.echo(f"{file}: open it in ui.perfetto.dev or chrome://tracing", err=True)


def _text(batches: Iterable[list[Moment]], evidence: Evidence) -> Iterator[str]:
    """A line for each moment, those of a list at once."""
    zero = evidence.began_us
    side = max(map(len, evidence.sides.values()), default=0)
    names = [name for role in evidence.sides for name in evidence.devices(role)]
    who = max(map(len, [*Witness, *names]))
    for batch in batches:
        if zero is None:
            zero = batch[0].at_us
        yield "\n".join(
            f"{(m.at_us - zero) / 1e3:>11.3f}  {m.side:<{side}}  {_who(m):<{who}}  {one_line(m)}"
            for m in batch
        )


def _who(moment: Moment) -> str:
    """The device that was asked; else the witness."""
    return (moment.witness is Witness.CALLS and moment.device) or str(moment.witness)


def one_line(moment: Moment) -> str:
    """What happened, without needless blanks."""
    return printable.unwrapped(str(moment))


def _json(batches: Iterable[list[Moment]], _: Evidence) -> Iterator[str]:
    """A list, an item on each line."""
    opened = "["
    for batch in batches:
        items = ",\n".join(
            jsontext.escaped(msgspec.json.encode(moment)).decode() for moment in batch
        )
        yield f"{opened}{items}"
        opened = ","
    yield "[]" if opened == "[" else "]"
