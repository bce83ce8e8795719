"""`qmptests vfio trace`: the calls of emulated devices and QEMU's own events as a time line."""

from pathlib import Path

import click
import msgspec

from qmptests import jsontext
from qmptests.cli.timeline import one_line
from qmptests.downtime import sources
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.sources import CALL_LOG
from qmptests.downtime.timeline import Timeline
from qmptests.errors import InputError

#: Who said it, if it was no device.
QEMU = "qemu"


class _Item(msgspec.Struct, frozen=True):
    """One line. `device` is whom it is about, `who` says it."""

    at_us: int
    side: str
    who: str
    device: str
    what: str


@click.command()
@click.argument("outcome", type=click.Path(path_type=Path))
@click.option("--side", default="", metavar="SIDE", help="Of this side only: source, destination.")
@click.option("--device", default="", metavar="NAME", help="About this device only, such as vf0.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def trace(outcome: Path, side: str, device: str, as_json: bool) -> None:
    """What emulated VFIO devices were asked, beside QEMU's own trace events, as a time line.

    OUTCOME is the folder of one migration. Times are milliseconds since the first line.
    """
    sides = _sides(outcome, side)
    evidence = sources.open(outcome)
    names = sorted({name for one in sides for name in evidence.devices(one)})
    if device and device not in names:
        raise InputError(f"there is no device '{device}': {', '.join(names)}")
    witnesses = (Witness.CALLS, Witness.TRACE)
    moments = Timeline(evidence, whole=True).moments(sides, witnesses, device)
    items = [
        _item(moment)
        for moment in moments
        if moment.witness is Witness.CALLS or moment.name.startswith("vfio_")
    ]
    for problem in evidence.problems:
        click.echo(f"qmptests: {problem}", err=True)
    if as_json:
        click.echo(jsontext.encode(items), nl=False)
        return
    for line in _lines(items):
        click.echo(line)


def _sides(folder: Path, side: str) -> list[str]:
    """The sides that have a call log, or the one that is asked for."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no outcome folder")
    sides = sorted(path.name.removesuffix(CALL_LOG) for path in folder.glob(f"*{CALL_LOG}"))
    if not sides:
        raise InputError(
            f"{folder} has no call log (SIDE{CALL_LOG}): there were no emulated devices"
        )
    if side and side not in sides:
        raise InputError(f"{folder} has no call log of '{side}': there are {', '.join(sides)}")
    return [side] if side else sides


def _item(moment: Moment) -> _Item:
    who = QEMU if moment.witness is Witness.TRACE else moment.device or "-"
    return _Item(moment.at_us, moment.side, who, moment.device, one_line(moment))


def _lines(items: list[_Item]) -> list[str]:
    if not items:
        return []
    first = items[0].at_us
    times = [f"{(item.at_us - first) / 1e3:.3f}" for item in items]
    width = max(map(len, times))
    side = max(len(item.side) for item in items)
    who = max(len(item.who) for item in items)
    return [
        f"{time:>{width}}  {item.side:<{side}}  {item.who:<{who}}  {item.what}"
        for time, item in zip(times, items, strict=True)
    ]
