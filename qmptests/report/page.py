"""A run as one HTML file: what `templates/run.html` is filled with."""

import json
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from qmptests import files
from qmptests.builds.registry import version_order
from qmptests.errors import InputError
from qmptests.matrix import common, summary
from qmptests.matrix.results import ItemResult, RunResults, Verdict, count
from qmptests.report import html, picture
from qmptests.report.html import Chart
from qmptests.report.picture import Share, Wait
from qmptests.report.runs import Migration, Ran, Run, in_order, name_of

#: Of a run with more items than this the details are put in compressed, and shown when asked for.
LAZY = 200
#: Downtimes that are apart by more than this factor are shown on a logarithmic axis.
WIDE = 20
#: Failures that are open when the page is.
OPEN = 20
#: What is linked of a migration's evidence, where it is there.
EVIDENCE = ("", "source.trace.log", "destination.trace.log", "source.qmp.jsonl", "outcome.json")

_Pair = tuple[str, str]


class Shown(NamedTuple):
    """One item, as the page shows it; pictures are "" where nothing is known.

    `details`: HTML of what is in it; `shown`: whether it is open.
    """

    number: int
    item: ItemResult
    downtime_ms: float | None
    details: str
    shown: bool = False

    @property
    def name(self) -> str:
        """By which it is known in other runs."""
        return name_of(self.item)

    @property
    def verdict(self) -> Verdict:
        """The item's."""
        return self.item.verdict

    @property
    def evidence(self) -> str:
        """Its folder in the run's."""
        return self.item.evidence


class Cause(NamedTuple):
    """Failures that are alike."""

    kind: str
    because: str
    items: list[Shown]


class Pair(NamedTuple):
    """A cell of the heat map. `kind`: how it is coloured; `number`: of its worst item."""

    good: int
    bad: int
    other: int
    number: int = 0

    @property
    def kind(self) -> str:
        """How it is coloured."""
        if self.bad:
            return "bad"
        return "good" if self.good else "other"

    @property
    def mark(self) -> str:
        """One letter, for those who don't see the colour."""
        return {"bad": "✗", "good": "✓", "other": "~"}[self.kind]

    @property
    def says(self) -> str:
        """In words."""
        parts = [(self.bad, "bad"), (self.good, "passed"), (self.other, "other")]
        return ", ".join(f"{number} {what}" for number, what in parts if number)


def write(run: Run, file: Path) -> None:
    """Write the page; raises InputError if that can't be."""
    results = run.verdicts()
    ran = Ran()
    details = _Details()
    ordered = in_order(results.items)
    told: dict[int, Shown] = {}
    places: dict[Path, deque[int]] = defaultdict(deque)
    for place, item in enumerate(ordered):
        places[run.folder / item.evidence].append(place)
    for migration in run.migrations():
        ran.see(migration.outcome)
        place = places[migration.folder].popleft()
        told[place] = details.shown(place + 1, ordered[place], migration)
    items = [told.get(n) or details.shown(n + 1, item, None) for n, item in enumerate(ordered)]
    bad = [one for one in items if one.verdict.bad]
    opened = {one.number for one in bad[:OPEN]} | ({1} if len(items) == 1 else set())
    items = [one._replace(shown=one.number in opened) for one in items]
    overview = _overview(items)
    lazy = ""
    if len(items) > LAZY:
        lazy = html.packed(json.dumps({f"i{o.number}": o.details for o in items if not o.shown}))
    html.write(
        file,
        "run.html",
        overview is not None,
        title=run.folder.resolve().name,
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(results.started)),
        seconds=results.seconds,
        host=ran.host,
        builds=list(ran.builds.values()),
        counts=count(results.items),
        fine=results.exit == 0,
        word=_word(run, results),
        findings=results.findings,
        not_run=results.not_run,
        not_checked=" ".join(text.strip() for text in summary.not_checked_of(results.items)),
        problems=run.problems,
        causes=_causes(items),
        shared=common.sentence(results.items),
        sources=_names(results.items, "source"),
        destinations=_names(results.items, "destination"),
        pairs=_by_pair(items),
        machines=_machines(items),
        overview=overview,
        marks=picture.MARKS,
        lazy=lazy,
        items=items,
    )


def _word(run: Run, results: RunResults) -> str:
    if run.is_cut_short:
        return "Cut short"
    if run.results is None and not run.is_bench:
        return "Verdicts unknown"
    return "Not fine" if results.exit else "Fine"


class _Details:
    """What is in each item."""

    def __init__(self) -> None:
        self._template = html.template("details.html")

    def shown(self, number: int, item: ItemResult, migration: Migration | None) -> Shown:
        made = migration.analysis if migration else None
        downtime = made.downtime if made else None
        exact = downtime.us / 1e3 if downtime and downtime.us > 0 else None
        attempts = migration.outcome.attempts if migration else []
        times = attempts[-1].times if attempts else None
        waits: list[Wait] = picture.waits(made.precopy) if made else []
        shares: list[Share] = picture.shares(downtime) if downtime and exact else []
        filling = {
            "item": item,
            "whole": picture.whole(made) if made else "",
            "waits": waits,
            "stopped": picture.stopped(downtime) if downtime and exact else "",
            "shares": shares,
            "downtime_ms": exact,
            "total_ms": times.total_ms if times else None,
            "qemu_ms": times.downtime_ms if times else None,
            "evidence": item.evidence,
            "files": [
                name
                for name in EVIDENCE
                if not name or (migration and _is_there(migration.folder, name))
            ],
        }
        return Shown(
            number=number,
            item=item,
            downtime_ms=item.downtime_ms if exact is None else exact,
            details=self._template.render(one=filling).strip(),
        )


def _is_there(folder: Path, name: str) -> bool:
    try:
        return files.within(folder, name).exists()
    except InputError:
        return False


def _causes(items: Sequence[Shown]) -> list[Cause]:
    by_item = {id(one.item): one for one in items}
    return [
        Cause(summary.kind(group[0]), summary.reason(group[0]), [by_item[id(i)] for i in group])
        for group in summary.alike(one.item for one in items if one.verdict.bad)
    ]


def _names(items: Sequence[ItemResult], side: str) -> list[str]:
    return sorted({item.coordinates[side] for item in items if item.cell}, key=version_order)


def _by_pair(items: Iterable[Shown]) -> dict[_Pair, Pair]:
    """(source, destination) -> what became of the items between them."""
    found: dict[_Pair, list[Shown]] = {}
    for one in items:
        if one.item.cell:
            at = one.item.coordinates
            found.setdefault((at["source"], at["destination"]), []).append(one)
    return {pair: _pair(found[pair]) for pair in sorted(found, key=_versions)}


def _versions(pair: _Pair) -> tuple[Any, ...]:
    return tuple(map(version_order, pair))


def _pair(those: Sequence[Shown]) -> Pair:
    bad = sum(one.verdict.bad for one in those)
    good = sum(one.verdict is Verdict.PASSED for one in those)
    worst = max(those, key=lambda one: (one.verdict.bad, one.verdict is not Verdict.PASSED))
    return Pair(good, bad, len(those) - good - bad, worst.number)


def _machines(items: Sequence[Shown]) -> dict[str, dict[_Pair, Pair]]:
    """Machine type -> pair of builds -> what became of it; from old to new in each family."""
    found: dict[str, list[Shown]] = {}
    for one in items:
        if one.item.cell and "machine" in one.item.coordinates:
            found.setdefault(one.item.coordinates["machine"], []).append(one)
    return {machine: _by_pair(found[machine]) for machine in sorted(found, key=_family)}


def _family(machine: str) -> tuple[str, Any]:
    family, _, _ = machine.rpartition("-")
    return family, version_order(machine)


def _overview(items: Sequence[Shown]) -> Chart | None:
    """A box and all points for each pair of builds; None if there are not two downtimes."""
    from plotly import graph_objects  # noqa: PLC0415

    groups: dict[str, list[Shown]] = {}
    for one in items:
        if one.downtime_ms:
            at = one.item.coordinates
            name = f"{at['source']} → {at['destination']}" if one.item.cell else "other tests"
            groups.setdefault(name, []).append(one)
    if sum(map(len, groups.values())) < 2:
        return None
    figure = graph_objects.Figure()
    for name in sorted(groups, key=version_order, reverse=True):
        those = groups[name]
        figure.add_trace(
            graph_objects.Box(
                x=[round(one.downtime_ms or 0, 3) for one in those],
                name=name,
                text=[one.name for one in those],
                customdata=[f"i{one.number}" for one in those],
                hovertemplate="%{text}<br>%{x} ms<extra></extra>",
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                marker={"color": html.BLUE, "size": 5, "opacity": 0.6},
                line={"color": html.GREY, "width": 1},
                fillcolor="rgba(0,0,0,0)",
                showlegend=False,
            )
        )
    every = [one.downtime_ms for those in groups.values() for one in those if one.downtime_ms]
    wide = max(every) > WIDE * min(every)
    figure.update_xaxes(title_text="downtime, ms", showgrid=True)
    figure.update_xaxes(type="log", dtick="D1") if wide else figure.update_xaxes(rangemode="tozero")
    said = [
        f"{name}: median {median(one.downtime_ms or 0 for one in those):.1f} ms of {len(those)}"
        for name, those in groups.items()
    ]
    return html.chart(figure, 90 + 46 * len(groups), f"downtimes: {'; '.join(said)}")
