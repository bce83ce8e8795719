"""Many nights as one HTML file: what is bad since when, and how downtimes went."""

import time
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median, quantiles

from qmptests.report import history as store
from qmptests.report import html
from qmptests.report.history import LATELY, History, Trend
from qmptests.report.html import Chart, Raw, Section, Table, Word

_WIDTH, _HEIGHT = 240, 28


def write(history: History, file: Path) -> None:
    """Write the page; raises InputError if that can't be."""
    trends = list(history.trends())
    shifts = {trend.name: trend.shift() for trend in trends}
    bad = [trend for trend in trends if trend.bad]
    slower = [t for t in trends if (shift := shifts[t.name]) and shift.slower]
    sections = []
    if bad or slower:
        since: dict[tuple[float, str], list[Trend]] = defaultdict(list)
        for trend in bad:
            if first := trend.first_bad:
                since[first.started, first.run].append(trend)
        text = [_group(since[run]) for run in sorted(since, reverse=True)]
        text += [f"{t.name}: {'; '.join(store.told(t, shifts[t.name]))}" for t in slower]
        sections.append(Section("What is bad now, or slower than it was", text))
    if counts := _counts(trends):
        sections.append(Section("Verdicts of each run", chart=counts))
    if together := _together(trends):
        text = ["Each test's downtime as a part of its own median over all runs: the median of all "
                "tests, and half of them between the thin lines."]  # fmt: skip
        sections.append(Section("Downtime of all tests together", text, chart=together))
    rows: list[list[str | Word | Raw]] = [
        [
            trend.name,
            Word("bad", "bad") if trend.bad else Word("good", "good"),
            Raw(spark(trend)),
            *_first_and_last(trend),
            "; ".join(store.told(trend, shifts[trend.name])),
        ]
        for trend in sorted(trends, key=lambda trend: not trend.bad)
    ]
    head = ("test", "now", "downtime, run by run; ✗ is bad", "first, ms", "last, ms", "")
    sections.append(Section("Each test", table=Table(head, rows, names=3)))
    word = "Not fine" if bad else "Fine"
    newest = history.newest()
    gone = sum(trend.nights[-1].started < newest for trend in trends)
    lead = [store.counts(history.runs(), len(trends), len(bad), len(slower), gone)]
    title = f"{word}: {history.file.name}"
    html.write_sections(file, title, sections, kind="bad" if bad else "good", lead=lead)


def _group(alike: Sequence[Trend]) -> str:
    """Tests that are bad since the same run."""
    first, *others = alike
    said = "; ".join(store.told(first, None))
    names = ", ".join(trend.name for trend in others[:2])
    more = f", {names}" if names else ""
    more += f" and {len(others) - 2} more" if len(others) > 2 else ""
    return f"{len(alike)} {said}: {first.name}{more}" if others else f"{first.name}: {said}"


def spark(trend: Trend) -> str:
    """A line of downtimes from 0 up; a cross for a run in which the test was bad."""
    nights = trend.nights[-LATELY:]
    most = max((night.downtime_ms or 0 for night in nights), default=0) or 1
    step = (_WIDTH - 12) / max(len(nights) - 1, 1)
    points, crosses, known = [], [], []
    for number, night in enumerate(nights):
        x = 6 + number * step
        if night.downtime_ms is not None:
            points.append(f"{x:.0f},{_HEIGHT - 3 - (_HEIGHT - 6) * night.downtime_ms / most:.1f}")
            known.append(f"{night.downtime_ms:.1f}")
        if night.bad:
            crosses.append(f'<text class="at" x="{x:.0f}" y="{_HEIGHT - 3}">✗</text>')
    said = escape(f"downtimes {', '.join(known) or 'unknown'} ms; bad in {len(crosses)} runs")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" style="width:{_WIDTH}px" role="img" '
        f'aria-label="{said}"><polyline class="spark" points="{" ".join(points)}"/>'
        f"{''.join(crosses)}</svg>"
    )


def _first_and_last(trend: Trend) -> tuple[str, str]:
    known = [f"{night.downtime_ms:.1f}" for night in trend.downtimes()]
    return (known[0], known[-1]) if known else ("", "")


def _runs(trends: Sequence[Trend]) -> list[tuple[float, str]]:
    """All of them, in order of time."""
    return sorted({(night.started, night.run) for trend in trends for night in trend.nights})


def _name(started: float, run: str) -> str:
    return f"{time.strftime('%m-%d %H:%M', time.localtime(started))} {run}"


def _counts(trends: Sequence[Trend]) -> Chart | None:
    """How many tests of each run were good and bad."""
    from plotly import graph_objects  # noqa: PLC0415

    runs = _runs(trends)
    if not runs:
        return None
    counts = {run: [0, 0] for run in runs}
    for trend in trends:
        for night in trend.nights:
            counts[night.started, night.run][night.bad] += 1
    figure = graph_objects.Figure()
    for number, name, colour in ((1, "bad", html.RED), (0, "good", html.GREEN)):
        figure.add_trace(
            graph_objects.Bar(
                x=[_name(*run) for run in runs],
                y=[count[number] for count in counts.values()],
                name=name,
                marker={"color": colour},
            )
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(type="category")
    figure.update_yaxes(title_text="tests")
    said = ", ".join(f"{run}: {one[1]} bad of {sum(one)}" for (_, run), one in counts.items())
    return html.chart(figure, 280, f"verdicts of each run: {said}")


def _together(trends: Sequence[Trend]) -> Chart | None:
    """Downtime of all tests, as a part of each one's median."""
    from plotly import graph_objects  # noqa: PLC0415

    parts: dict[tuple[float, str], list[float]] = defaultdict(list)
    for trend in trends:
        known = trend.downtimes()
        middle = median(night.downtime_ms or 0 for night in known) if known else 0
        for night in known if middle else ():
            parts[night.started, night.run].append((night.downtime_ms or 0) / middle)
    runs = sorted(parts)
    if len(runs) < 2:
        return None
    figure = graph_objects.Figure()
    edges = [quantiles(parts[run], n=4) if len(parts[run]) > 1 else [1, 1, 1] for run in runs]
    for name, values, width in (
        ("a quarter above", [edge[2] for edge in edges], 1),
        ("median", [median(parts[run]) for run in runs], 3),
        ("a quarter below", [edge[0] for edge in edges], 1),
    ):
        figure.add_trace(
            graph_objects.Scatter(
                x=[_name(*run) for run in runs],
                y=[round(100 * value, 2) for value in values],
                name=name,
                mode="lines+markers" if width > 1 else "lines",
                line={"color": html.BLUE, "width": width},
            )
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(title_text="% of the median", rangemode="tozero")
    said = ", ".join(f"{run[1]}: {median(parts[run]):.0%}" for run in runs)
    return html.chart(figure, 300, f"downtime of all tests, of their medians: {said}")
