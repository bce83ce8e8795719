"""Names and reasons of outside are data in a page, a chart, and a mail."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.report import mail, page
from qmptests.report.runs import Run
from tests.report.markup import read

ODD = "<!--<script>alert(1)</script>\x1b]0;x\x07\u202e\x9b`x` ```\n```\n[a](javascript:b) {{ 7*7 }}"


def hostile(folder: Path) -> Run:
    coordinates = {name: f"{name}{ODD}" for name in ("source", "destination", "machine", "vm")}
    items = [
        ItemResult(
            nodeid=f"a.py::test[{number}{ODD}]",
            verdict=Verdict.FAILED,
            seconds=1.0,
            cell=f"{number}{ODD}",
            coordinates=coordinates,
            because=ODD,
            evidence=f"javascript:alert({number})//{ODD}",
            downtime_ms=number,
        )
        for number in (3, 4)
    ]
    results = RunResults(
        started=0.0, seconds=1.0, items=items, exit=1, findings=[ODD], not_run=[ODD]
    )
    return Run(folder, results, [ODD])


def test_a_page_shows_it(tmp_path: Path) -> None:
    page.write(hostile(tmp_path), tmp_path / "x.html")
    text, parser = read(tmp_path / "x.html")
    assert "<script>alert" not in text
    assert all(c.isprintable() or c in "\n\t" for c in text)
    assert all(link.startswith(("#", "./")) for link in parser.links), parser.links
    (figure,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)
    assert "alert(1)" in figure
    assert "<" not in figure
    assert "&lt;!--&lt;script" in figure


def test_a_mail_shows_it_in_its_blocks_and_outside(tmp_path: Path) -> None:
    lines = list(mail.lines(hostile(tmp_path)))
    assert all(line.isprintable() for line in lines)
    fence = ""
    prose = []
    for line in lines:
        mark = re.match(r"`{3,}", line)
        if mark and fence in ("", mark[0]):
            assert line == mark[0]
            fence = "" if fence else mark[0]
        elif not fence:
            prose.append(line)
    assert not fence, "a block is left open"
    assert not re.search(r"(?<!\\)[`<]|\]\(", "\n".join(prose))


@pytest.mark.parametrize(
    "begin",
    [
        "# h",
        "###### h",
        "> q",
        "- a",
        "+ a",
        "* a",
        "1. a",
        "12) a",
        "---",
        "* * *",
        "___",
        "===",
        "|-|",
    ],
)
def test_no_line_of_a_mail_that_is_wrapped_begins_a_block(begin: str, tmp_path: Path) -> None:
    """Wherever a line of it is broken."""
    for length in range(55, 75):
        reason = f"{begin} {'x' * length} {begin}"
        item = ItemResult(nodeid="a::b", verdict=Verdict.FAILED, seconds=1.0, because=reason)
        results = RunResults(started=0.0, seconds=1.0, items=[item], exit=1)
        lines = list(mail.lines(Run(tmp_path, results, [f"{'x' * length} {begin}"])))
        blocks = [token.type for token in MarkdownIt().parse("\n".join(lines))]
        kinds = {kind.removesuffix("_open") for kind in blocks if kind.endswith("_open")}
        assert kinds == {"paragraph", "heading"}, lines
        assert blocks.count("heading_open") == 1
        assert "hr" not in blocks
