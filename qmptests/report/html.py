"""HTML pages that are one file and need no network: text, tables, and charts that plotly draws.

jinja2 fills `templates/`; it and plotly are in the extra `report`. plotly's script is put in once,
compressed, and started when the page stands: it does not hold up what there is to read. Without
scripts a page has all but its charts, and each chart's figures are in a table too.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from qmptests import files, pasting, printable
from qmptests.errors import EnvironmentFailure

if TYPE_CHECKING:
    from jinja2 import Template
    from plotly.graph_objects import Figure

#: Colours that people with any colour vision tell apart (Okabe and Ito).
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, GREY = "#56B4E9", "#D55E00", "#F0E442", "#999999"


class Chart(NamedTuple):
    """A chart: plotly's JSON, its height in pixels, and what it shows, in words."""

    figure: str
    height: int
    says: str


class Word(NamedTuple):
    """A table's entry. `kind`: good, bad, other, or "" for plain text; `link`: within the page."""

    text: str
    kind: str = ""
    link: str = ""


class Raw(NamedTuple):
    """A table's entry that is HTML."""

    html: str


class Table(NamedTuple):
    """Rows below headings; the first `names` columns are names, the others figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Word | Raw]]
    names: int = 1


class Section(NamedTuple):
    """A part of a page: what is in it comes in this order. `pictures`: SVG."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[str] = ()
    chart: Chart | None = None
    table: Table | None = None
    plain: str = ""


def check() -> None:
    """Raise EnvironmentFailure if what makes a page is not installed."""
    try:
        import jinja2  # noqa: F401, PLC0415
        import plotly  # noqa: F401, PLC0415
    except ImportError as error:
        text = f"an HTML page needs {error.name}: pip install 'qmptests[report]'"
        raise EnvironmentFailure(text) from error


def chart(figure: "Figure", height: int, says: str) -> Chart:
    """A chart for a page; its colours follow the page's, light or dark."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 10, "r": 20, "t": 10, "b": 45},
        height=height,
        font={"size": 13},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    drawn = json.loads(figure.to_json())
    drawn["data"] = _plain(drawn["data"])
    # "</script" would end the script that it stands in, and after "<!--" nothing would.
    return Chart(json.dumps(drawn).replace("<", "\\u003c"), height, says)


def _plain(value: Any, key: str = "") -> Any:
    """A trace's names and labels, in which plotly would take tags and entities for its own."""
    if isinstance(value, dict):
        return {name: _plain(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part, key) for part in value]
    if isinstance(value, str) and key != "hovertemplate":
        return printable.one_line(value).replace("&", "&amp;").replace("<", "&lt;")
    return value


def packed(text: str) -> str:
    """Compressed, in letters that a page may hold."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415

    return packed(get_plotlyjs())


def template(name: str) -> "Template":
    """One of `templates/`."""
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qmptests.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
    )
    environment.filters.update(pasted=pasting.path, address=_address)
    return environment.get_template(name)


def _finalized(value: Any) -> Any:
    """What a template shows: text that has no markup of its own is made printable."""
    plain = isinstance(value, str) and not hasattr(value, "__html__")
    return printable.lines(value) if plain else value


def _address(path: str) -> str:
    """A path within the run folder as an address, which no name turns into another scheme."""
    return "./" + quote(path, errors="surrogateescape")


def write(file: Path, name: str, charts: bool, **filling: Any) -> None:
    """Fill a template; raises EnvironmentFailure for a file that can't be written."""
    text = template(name).render(plotly=_plotly() if charts else "", **filling)
    files.write(file, text.encode())


def write_sections(
    file: Path, title: str, sections: Sequence[Section], *, kind: str = "", lead: Sequence[str] = ()
) -> None:
    """A page of a title, a few lines below it, and sections. `kind`: good or bad, of the title."""
    charts = any(section.chart for section in sections)
    write(file, "sections.html", charts, title=title, kind=kind, lead=lead, sections=sections)
