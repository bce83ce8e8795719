"""Runs held against runs as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from qmptests.report import between, comparison, html
from qmptests.report.between import Comparison
from qmptests.report.comparison import Row
from qmptests.report.html import Chart, Section, Table, Word

#: Cells that are drawn, those with the greatest changes first.
MOST = 40
_HEAD = ("figure", "A, ms", "B, ms", "noise", "change", "95 % interval", "chance", "verdict")
_KINDS = {"worse": "bad", "better": "good", "same": "other"}
_COLOURS = {"bad": html.RED, "good": html.GREEN, "other": html.GREY, "": html.ORANGE}


def write(found: Comparison, before: str, after: str, file: Path) -> None:
    """Write the page; raises InputError if that can't be. `before`, `after`: the sides' names."""
    lead = [f"A: {before}", f"B: {after}", *between.counts(found)]
    sections = []
    if found.together:
        sections.append(
            Section(
                f"All {len(found.cells)} cells together",
                ["Each cell is one pair, by Wilcoxon's signed ranks. What the machine did besides "
                 "while one of the runs went on is in it too."],
                chart=chart(found.together),
                table=table(found.together),
            )
        )  # fmt: skip
    changed = [cell for cell in found.cells if cell.changed]
    changed.sort(key=lambda cell: -max(abs(row.effect.part) for row in cell.rows if row.changed))
    if changed:
        named = [
            Row(f"{cell.name}: {row.name}", row.effect, row.certain)
            for cell in changed[:MOST]
            for row in cell.rows
            if row.changed
        ]
        more = [f"{len(changed) - MOST} more cells are in the table below."]
        sections.append(
            Section("Cells that have changed", more[: len(changed) > MOST], chart=chart(named))
        )
    rows = [[cell.name, *_row(row)] for cell in found.cells for row in cell.rows]
    sections.append(
        Section(
            "Each cell",
            ["A change is certain if it stands among all figures of this page; with a question "
             "mark it may be by chance. (~N): so many repeats of each side would tell, about."],
            table=Table(("cell", *_HEAD), rows, names=2),
        )
    )  # fmt: skip
    kind = {"Worse": "bad", "Not worse": "good"}.get(found.word, "")
    html.write_sections(file, f"{found.word}: {after}", sections, kind=kind, lead=lead)


def table(rows: Sequence[Row]) -> Table:
    """All that is known of each figure."""
    return Table(_HEAD, [_row(row) for row in rows])


def _row(row: Row) -> list[str | Word]:
    one, word = row.effect, comparison.words(row)
    return [
        row.name,
        comparison.figure(one.before),
        comparison.figure(one.after),
        comparison.noise(one),
        f"{one.part:+.1%}",
        comparison.interval(one),
        f"{one.chance:.3g}",
        Word(word, _KINDS.get(word, "")),
    ]


def chart(rows: Sequence[Row]) -> Chart:
    """Each figure's change with its interval, per cent of A."""
    from plotly import graph_objects  # noqa: PLC0415

    figure = graph_objects.Figure()
    for row in reversed(rows):
        one = row.effect
        scale = 100 / one.before if one.before else 0.0
        colour = _COLOURS[_KINDS.get(comparison.words(row), "")]
        low, high = (one.shift if end is None else end for end in (one.low, one.high))
        figure.add_trace(
            graph_objects.Scatter(
                x=[one.shift * scale],
                y=[row.name],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [(high - one.shift) * scale],
                    "arrayminus": [(one.shift - low) * scale],
                    "color": colour,
                },
                mode="markers",
                marker={"color": colour, "size": 9},
                hovertemplate=f"{comparison.words(row)}: {one.part:+.1%}<extra></extra>",
                showlegend=False,
            )
        )
    figure.update_xaxes(title_text="change, % of A (to the right is worse)", zerolinewidth=2)
    said = "; ".join(f"{row.name} {row.effect.part:+.1%}" for row in rows[:MOST])
    return html.chart(figure, 90 + 26 * len(rows), f"changes with intervals: {said}")
