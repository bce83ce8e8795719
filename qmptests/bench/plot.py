"""The bench's results as pictures: one HTML file that needs no network."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from qmptests.bench import sample, series
from qmptests.bench.sample import Sample
from qmptests.bench.sweep import COUNT, MOMENT, SIZE, Row
from qmptests.downtime import analysis
from qmptests.report import html, picture
from qmptests.report.html import Chart, Section, Table

_TITLES = {
    SIZE: "Size of the late data",
    MOMENT: "Moment at which it appears",
    COUNT: "REINITs, one after the other",
}
_LINES = (
    ("downtime without", "without_ms", html.RED, "solid"),
    ("downtime with REINIT", "with_ms", html.BLUE, "solid"),
    ("total without", "total_without_ms", html.RED, "dot"),
    ("total with REINIT", "total_with_ms", html.BLUE, "dot"),
)
#: Of the busy device's parts, in the order of time; the rest of the downtime is grey.
_COLOURS = dict(
    zip(
        sample.PARTS,
        (html.ORANGE, html.RED, html.PINK, html.BLUE, html.GREEN, html.YELLOW),
        strict=True,
    )
)


def page(file: Path, title: str, inputs: Iterable[str], sections: Iterable[Section]) -> None:
    """Write the sections, what went in being the last; raises InputError if that can't be."""
    html.write_sections(file, title, [*sections, Section("Inputs", plain="\n".join(inputs))])


def migration(title: str, folder: Path) -> Section:
    """One migration of the bench as two pictures."""
    made = analysis.analyse(folder)
    pictures = [picture.whole(made)]
    text = [f"Milliseconds from migrate on. {picture.MARKS}"]
    said = [f"{wait.why} {wait.ms:.1f} ms" for wait in picture.waits(made.precopy)]
    text.append(f"Precopy waited for: {', '.join(said)}.")
    if made.downtime is None:
        return Section(title, text, pictures=pictures)
    pictures.append(picture.stopped(made.downtime))
    text.append("Below it the downtime by itself, from the VM's stop; its numbers are the table's.")
    rows = [
        [one.number, one.what, one.side, f"{one.ms:.1f}", f"{one.part:.0%}"]
        for one in picture.shares(made.downtime)
    ]
    head = ("", "who, and what", "side", "ms", "part")
    return Section(title, text, pictures=pictures, table=Table(head, rows, names=3))


def table(found: Mapping[str, Sequence[Sample]]) -> Chart:
    """The median repeat of each side: the busy device's parts, and the rest; the series' below."""
    from plotly import graph_objects  # noqa: PLC0415

    bars: dict[str, dict[str, float]] = {}
    for name, samples in found.items():
        one = _middle(samples)
        bars[name] = (one.busy_parts_ms | {"rest": one.rest_ms or 0.0}) if one else {}
    figure = graph_objects.Figure()
    theirs = {"the series, with": series.WITH, "the series, without": series.WITHOUT}
    names = [*bars, *theirs]
    busy = [0.0] * len(bars) + [float(told.busy_ms) for told in theirs.values()]
    figure.add_trace(_bar(names, busy, "busy, as the series says", html.SKY))
    for part, colour in (*_COLOURS.items(), ("rest", html.GREY)):
        values = [bars[name].get(part, 0.0) if name in bars else 0.0 for name in names]
        if part == "rest":
            values[len(bars) :] = [told.downtime_ms - told.busy_ms for told in theirs.values()]
        if max(values) >= 0.5:
            called = "the others and the rest" if part == "rest" else f"busy: {part}"
            figure.add_trace(_bar(names, values, called, colour))
    legend = {"orientation": "h", "y": -0.28, "x": 0, "traceorder": "normal"}
    figure.update_layout(barmode="stack", legend=legend)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="downtime, ms (of the median repeat)")
    said = [f"{name}: {sum(parts.values()):.0f} ms" for name, parts in bars.items()]
    return html.chart(figure, 190 + 40 * len(names), f"downtimes: {', '.join(said)}")


def _bar(names: Sequence[str], values: Sequence[float], called: str, colour: str) -> object:
    from plotly import graph_objects  # noqa: PLC0415

    return graph_objects.Bar(
        x=values,
        y=list(names),
        name=called,
        orientation="h",
        marker={"color": colour},
        hovertemplate=f"{called}: %{{x:.0f}} ms<extra></extra>",
    )


def swept(rows: Sequence[Row]) -> list[tuple[str, Chart]]:
    """A chart for each axis of the sweep, by its title."""
    from plotly import graph_objects  # noqa: PLC0415

    charts = []
    for axis in dict.fromkeys(row.axis for row in rows):
        mine = [row for row in rows if row.axis == axis]
        figure = graph_objects.Figure()
        for name, field, colour, dash in _LINES:
            figure.add_trace(
                graph_objects.Scatter(
                    x=[row.value for row in mine],
                    y=[getattr(row, field) for row in mine],
                    name=name,
                    mode="lines+markers",
                    line={"color": colour, "dash": dash},
                )
            )
        figure.update_yaxes(title_text="ms", rangemode="tozero")
        figure.update_xaxes(type="category")
        figure.update_layout(hovermode="x unified")
        charts.append((_TITLES[axis], html.chart(figure, 380, f"sweep by {axis}")))
    return charts


def _middle(samples: Sequence[Sample]) -> Sample | None:
    """The one with the median downtime, or next below it; None if none has one."""
    known = sorted(
        (one for one in samples if one.downtime_ms is not None), key=lambda s: s.downtime_ms or 0.0
    )
    return known[(len(known) - 1) // 2] if known else None
