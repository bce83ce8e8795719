"""The sweep as a picture: one HTML file that needs no network.

plotly draws it, which is in the extra `report`.
"""

from collections.abc import Sequence
from pathlib import Path

from qmptests.bench.sweep import COUNT, MOMENT, SIZE, Row
from qmptests.errors import EnvironmentFailure, InputError

_TITLES = {
    SIZE: "size of the late data",
    MOMENT: "moment at which it appears",
    COUNT: "REINITs, one after the other",
}
#: Colours that people with any colour vision tell apart (Okabe and Ito), and other dashes.
_LINES = (
    ("downtime without", "without_ms", "#D55E00", "solid"),
    ("downtime with REINIT", "with_ms", "#0072B2", "solid"),
    ("total without", "total_without_ms", "#D55E00", "dot"),
    ("total with REINIT", "total_with_ms", "#0072B2", "dot"),
)


def check() -> None:
    """Raise EnvironmentFailure if nothing here can draw."""
    try:
        import plotly  # noqa: F401, PLC0415
    except ImportError as error:
        text = "a plot needs plotly: pip install 'qmptests[report]'"
        raise EnvironmentFailure(text) from error


def write(rows: Sequence[Row], file: Path, caption: str) -> None:
    """Draw the rows, a panel for each axis; raises InputError if `file` can't be written."""
    from plotly import graph_objects, subplots  # noqa: PLC0415

    axes = list(dict.fromkeys(row.axis for row in rows))
    figure = subplots.make_subplots(
        rows=len(axes), cols=1, subplot_titles=[_TITLES[axis] for axis in axes]
    )
    for number, axis in enumerate(axes, 1):
        mine = [row for row in rows if row.axis == axis]
        for name, field, colour, dash in _LINES:
            line = graph_objects.Scatter(
                x=[row.value for row in mine],
                y=[getattr(row, field) for row in mine],
                name=name,
                legendgroup=name,
                showlegend=number == 1,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
            )
            figure.add_trace(line, row=number, col=1)
        figure.update_yaxes(title_text="ms", rangemode="tozero", row=number, col=1)
        figure.update_xaxes(type="category", row=number, col=1)
    figure.update_layout(
        title_text=caption, template="plotly_white", height=360 * len(axes), hovermode="x unified"
    )
    try:
        figure.write_html(file, include_plotlyjs=True)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from error
