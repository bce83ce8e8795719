"""`qmptests vfio trace`: the calls of emulated devices and QEMU's own events as a time line."""

from pathlib import Path

import click
import msgspec

from qmptests.vfio import timeline
from qmptests.vfio.timeline import Moment


@click.command()
@click.argument("outcome", type=click.Path(path_type=Path))
@click.option("--side", default="", metavar="SIDE", help="Of this side only: source, destination.")
@click.option("--device", default="", metavar="NAME", help="About this device only, such as vf0.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def trace(outcome: Path, side: str, device: str, as_json: bool) -> None:
    """What emulated VFIO devices were asked, beside QEMU's own trace events, as a time line.

    OUTCOME is the folder of one migration. Times are milliseconds since the first line.
    """
    found = timeline.read(outcome, side, device)
    for problem in found.problems:
        click.echo(f"qmptests: {problem}", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found.moments), indent=1))
        return
    for line in _lines(found.moments):
        click.echo(line)


def _lines(moments: list[Moment]) -> list[str]:
    if not moments:
        return []
    first = moments[0].at_us
    times = [f"{(moment.at_us - first) / 1e3:.3f}" for moment in moments]
    width = max(map(len, times))
    side = max(len(moment.side) for moment in moments)
    who = max(len(moment.who) for moment in moments)
    return [
        f"{time:>{width}}  {m.side:<{side}}  {m.who:<{who}}  {m.what}"
        for time, m in zip(times, moments, strict=True)
    ]
