"""A run as one HTML file that needs no network: what `templates/report.html` is filled with.

jinja2 fills it, which is in the extra `report`.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qmptests.downtime.analysis import Analysis
from qmptests.downtime.critical import UNATTRIBUTED
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.matrix.results import ItemResult, Verdict, by_pair, count
from qmptests.report.runs import Migration, Run, name_of

#: Shares of the downtime below this part are put together.
SMALL = 0.02
OTHERS = "others"
#: Colours that people with any colour vision tell apart (Okabe and Ito, less yellow and black).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_GREY = "#999999"


class Piece(NamedTuple):
    """A part of a bar: per cent from the left, per cent wide."""

    left: float
    width: float
    colour: str
    label: str
    ms: float


class Mark(NamedTuple):
    """Something that happened at one moment of precopy: per cent from the left."""

    left: float
    label: str


class Shown(NamedTuple):
    """One item, as the page shows it; bars are empty where nothing is known."""

    number: int
    name: str
    verdict: Verdict
    item: ItemResult
    downtime_ms: float | None
    total_ms: int | None
    downtime: list[Piece]
    precopy: list[Piece]
    marks: list[Mark]
    evidence: str


class Pair(NamedTuple):
    """A cell of the heat map."""

    good: int
    bad: int
    other: int

    @property
    def kind(self) -> str:
        """How it is coloured."""
        if self.bad:
            return "bad"
        return "good" if self.good else "other"


def check() -> None:
    """Raise EnvironmentFailure if nothing here can fill the page."""
    try:
        import jinja2  # noqa: F401, PLC0415
    except ImportError as error:
        text = "an HTML report needs jinja2: pip install 'qmptests[report]'"
        raise EnvironmentFailure(text) from error


def write(run: Run, file: Path) -> None:
    """Write the page; raises InputError for a run without verdicts, or a file that can't be."""
    import jinja2  # noqa: PLC0415

    results = run.results
    if results is None:
        raise InputError(f"{run.folder} was cut short: there are no verdicts to tell of")
    known = {migration.name: migration for migration in run.migrations()}
    items = [
        _shown(number, item, known.get(name_of(item)))
        for number, item in enumerate(results.items, 1)
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qmptests.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("report.html").render(
        title=run.folder.name,
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(results.started)),
        seconds=results.seconds,
        counts=count(results.items),
        fine=results.exit == 0,
        findings=results.findings,
        not_run=results.not_run,
        problems=run.problems,
        sources=_names(results.items, "source"),
        destinations=_names(results.items, "destination"),
        pairs=_pairs(results.items),
        bad=[shown for shown in items if shown.verdict.bad],
        items=items,
    )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from error


def _names(items: Sequence[ItemResult], side: str) -> list[str]:
    return list(dict.fromkeys(item.coordinates[side] for item in items if item.cell))


def _pairs(items: Sequence[ItemResult]) -> dict[tuple[str, str], Pair]:
    found = {}
    for pair, those in by_pair(items).items():
        bad = sum(item.verdict.bad for item in those)
        good = sum(item.verdict is Verdict.PASSED for item in those)
        found[pair] = Pair(good, bad, len(those) - good - bad)
    return found


def _shown(number: int, item: ItemResult, migration: Migration | None) -> Shown:
    made = migration.analysis if migration else None
    attempts = migration.outcome.attempts if migration else []
    exact = made.downtime.us / 1e3 if made and made.downtime else None
    return Shown(
        number=number,
        name=name_of(item),
        verdict=item.verdict,
        item=item,
        downtime_ms=item.downtime_ms if exact is None else exact,
        total_ms=attempts[-1].times.total_ms if attempts else None,
        downtime=list(_downtime(made)) if made else [],
        precopy=list(_precopy(made)) if made else [],
        marks=list(_marks(made)) if made else [],
        evidence=item.evidence,
    )


def _downtime(made: Analysis) -> Iterator[Piece]:
    """The critical path, in order of time."""
    if made.downtime is None or not made.downtime.us:
        return
    whole = made.downtime.us
    shares: dict[str, int] = defaultdict(int)
    for share in made.downtime.shares():
        name = "unattributed" if share.owner == UNATTRIBUTED else f"{share.owner} {share.step}"
        shares[name] += share.us
    kept = {name: us for name, us in shares.items() if us >= SMALL * whole}
    if rest := whole - sum(kept.values()):
        kept[OTHERS] = rest
    left = 0.0
    for number, (name, us) in enumerate(kept.items()):
        width = 100 * us / whole
        colour = _GREY if name == OTHERS else COLOURS[number % len(COLOURS)]
        yield Piece(left, width, colour, name, us / 1e3)
        left += width


def _precopy(made: Analysis) -> Iterator[Piece]:
    """What switchover waited for."""
    story = made.precopy
    colours = {why: COLOURS[n % len(COLOURS)] for n, why in enumerate(_reasons(made))}
    part = 100 / (story.us or 1)
    for interval in story.intervals:
        left, width = part * (interval.begin_us - story.begin_us), part * interval.us
        label = f"{interval.why} {', '.join(interval.devices)}".rstrip()
        yield Piece(left, width, colours[interval.why], label, interval.us / 1e3)


def _reasons(made: Analysis) -> list[str]:
    return list(dict.fromkeys(str(interval.why) for interval in made.precopy.intervals))


def _marks(made: Analysis) -> Iterator[Mark]:
    """Acks that were given, and REINITs."""
    story = made.precopy

    def at(us: int) -> float:
        return min(100.0, 100 * (us - story.begin_us) / (story.us or 1))

    for ack in story.acks[-50:]:
        if ack.given_us is not None:
            ms = (ack.given_us - story.begin_us) / 1e3
            yield Mark(at(ack.given_us), f"{ack.device}: {ack.why} ack at {ms:.0f} ms")
    for device in story.devices:
        for reinit in device.reinits[-50:]:
            ms = (reinit.at_us - story.begin_us) / 1e3
            yield Mark(at(reinit.at_us), f"{device.name}: REINIT at {ms:.0f} ms")
