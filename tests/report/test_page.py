"""The HTML page of a run: whole in itself, and true."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qmptests.errors import InputError
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.report import page, runs
from qmptests.report.runs import Run

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Balanced(HTMLParser):
    """Raises for a tag that is not closed, or closed and not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(file: Path) -> tuple[str, Balanced]:
    text = file.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return text, parser


def test_a_run_that_is_fine_says_so_first(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    command = [sys.executable, "-m", "qmptests.cli.main", "report", str(run), "--output", str(file)]
    subprocess.run(command, check=True, timeout=60)
    text, parser = read(file)
    assert '<h1 class="good">Fine: run</h1>' in text
    assert "Downtime: its critical path" in text
    assert "Precopy: what switchover waited for" in text
    for what in ("Precopy", "Downtime"):
        bar = text[text.index(f"<p>{what}") :]
        widths = re.findall(r"width:([0-9.]+)%", bar[: bar.index("</div>")])
        assert sum(map(float, widths)) == pytest.approx(100, abs=0.5)
    assert not re.search(r"(https?:)?//", " ".join(parser.links)), "it needs a network"


def made(folder: Path, *items: ItemResult, code: int = 1) -> Run:
    return Run(folder, RunResults(started=0.0, seconds=1.0, items=list(items), exit=code), [])


def test_a_failure_stands_on_the_first_screen_with_the_way_to_repeat_it(
    run: Path, tmp_path: Path
) -> None:
    real = runs.read(run)
    assert real.results
    (item,) = real.results.items
    item.verdict, item.because = Verdict.FAILED, "<script>alert(1)</script> & more"
    real.results.exit = 1
    page.write(real, tmp_path / "x.html")
    text, parser = read(tmp_path / "x.html")
    assert '<h1 class="bad">Not fine: run</h1>' in text
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert f"sh {item.evidence}/reproduce.sh" in text
    assert "#i1" in parser.links
    assert "i1" in parser.ids
    assert "1 bad, 0 passed" in text


def test_what_has_no_evidence_is_shown_all_the_same(tmp_path: Path) -> None:
    items = [
        ItemResult(nodeid="a.py::test_one", verdict=Verdict.PASSED, seconds=1.0),
        ItemResult(nodeid="a.py::test_two", verdict=Verdict.LOST, seconds=1.0, evidence="gone/x"),
    ]
    run = made(tmp_path, *items)
    page.write(run, tmp_path / "x.html")
    text, _ = read(tmp_path / "x.html")
    assert "a.py::test_one" in text
    assert "a.py::test_two" in text
    assert "note: a.py::test_two: no outcome in" in text


def test_nothing_ran_is_said(tmp_path: Path) -> None:
    page.write(made(tmp_path), tmp_path / "x.html")
    assert "nothing ran" in read(tmp_path / "x.html")[0]


def test_two_thousand_cells_make_less_than_ten_megabytes(run: Path, tmp_path: Path) -> None:
    real = runs.read(run)
    assert real.results
    (item,) = real.results.items
    (migration,) = real.migrations()
    shown = page._shown(1, item, migration)
    assert shown.downtime
    file = tmp_path / "one.html"
    page.write(real, file)
    one = file.stat().st_size
    real.results.items *= 2
    page.write(real, file)
    assert one + 2000 * (file.stat().st_size - one) < 10_000_000


def test_a_run_that_was_cut_short_has_no_page(run: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(run, short)
    (short / "results.json").unlink()
    with pytest.raises(InputError, match="was cut short"):
        page.write(runs.read(short), tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
