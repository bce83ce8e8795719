"""The HTML page of a run: whole in itself, and true."""

import base64
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.report import mail, page, runs
from qmptests.report.runs import Run
from tests.report.markup import read


def test_a_run_that_is_fine_says_so_first(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    command = [sys.executable, "-m", "qmptests.cli.main", "report", str(run), "--output", str(file)]
    subprocess.run(command, check=True, timeout=60)
    text, parser = read(file)
    assert '<h1 class="good">Fine: run</h1>' in text
    assert "Both sides, ms from <code>migrate</code>" in text
    assert "Downtime: who had each instant" in text
    assert not re.search(r"(https?:)?//", " ".join(parser.links)), "it needs a network"


def test_what_was_not_checked_stands_in_page_mail_and_results(run: Path, tmp_path: Path) -> None:
    page.write(runs.read(run), tmp_path / "x.html")
    text, _ = read(tmp_path / "x.html")
    words = "guest and memory not checked"
    said = f"not everything was checked: {words} (1 test)"
    assert f'<p class="other">{said}</p>' in text
    assert f'<span class="good">passed; {words}</span>' in text
    assert said in " ".join(" ".join(mail.lines(runs.read(run))).split())
    (run_of_one,) = runs.read(run).verdicts().items
    assert run_of_one.not_checked == words
    # What a bench, or a run without verdicts, is made into says it too.
    (item,) = Run(run, None, []).verdicts().items
    assert item.not_checked == words


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
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert f"sh {item.evidence}/reproduce.sh" in text
    assert "#i1" in parser.links
    assert "i1" in parser.ids
    assert '<td class="bad">1 bad</td>' in text
    assert "By machine type" in text
    assert ">✗</a></td>" in text


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


def many(real: Run, count: int) -> Run:
    """The one migration of a run so often, as items of their own."""
    assert real.results
    (item,) = real.results.items
    real.results.items = [
        msgspec.structs.replace(item, nodeid=f"{item.nodeid[:-1]}-n{number}]")
        for number in range(count)
    ]
    return real


def test_details_of_a_large_run_are_packed_and_whole(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.html"
    page.write(many(runs.read(run), page.LAZY + 1), file)
    text, _ = read(file)
    (hidden,) = re.findall(r'<script type="text/plain" id="details">([^<]*)</script>', text)
    details = json.loads(gzip.decompress(base64.b64decode(hidden)))
    assert len(details) == page.LAZY + 1
    assert all("Downtime: who had each instant" in one for one in details.values())
    assert "who had each instant" not in text


def test_two_thousand_cells_make_less_than_ten_megabytes(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.html"
    page.write(many(runs.read(run), page.LAZY + 1), file)
    few = file.stat().st_size
    page.write(many(runs.read(run), 2 * page.LAZY + 1), file)
    each = (file.stat().st_size - few) / page.LAZY
    assert few + 2000 * each < 10_000_000


def copied(run: Path, folder: Path, change: Callable[[Path], object]) -> str:
    """The page of a copy of the run in `folder`, to which something was done."""
    shutil.copytree(run, folder)
    change(folder)
    file = folder.with_suffix(".html")
    page.write(runs.read(folder), file)
    return read(file)[0]


def test_a_run_that_was_cut_short_shows_what_came_to_an_end(run: Path, tmp_path: Path) -> None:
    text = copied(run, tmp_path / "short", lambda folder: (folder / "results.json").unlink())
    assert '<h1 class="bad">Cut short: short</h1>' in text
    assert "the run was cut short, its verdicts are not known" in text
    assert "<b>1</b> passed" in text
    assert "Downtime: who had each instant" in text


def test_the_folder_of_a_bench_is_a_run(run: Path, tmp_path: Path) -> None:
    text = copied(run, tmp_path / "bench", lambda f: (f / "results.json").rename(f / "bench.json"))
    assert '<h1 class="good">Fine: bench</h1>' in text
    assert "cut short" not in text


def test_a_missing_analysis_is_a_note_and_the_rest_is_shown(run: Path, tmp_path: Path) -> None:
    def forget_traces(folder: Path) -> None:
        for log in folder.glob("*/*/*.trace.log"):
            log.unlink()

    text = copied(run, tmp_path / "other", forget_traces)
    assert '<h1 class="good">Fine: other</h1>' in text
    assert "<b>1</b> passed" in text
    assert "note: test_cells.py::test_migrates[" in text
    assert "]: source.trace.log is not there: what QEMU traced is missing" in text


def test_verdicts_of_another_schema_are_a_note_and_the_rest_is_shown(
    run: Path, tmp_path: Path
) -> None:
    other = '{"schema": 99}'
    text = copied(run, tmp_path / "other", lambda f: (f / "results.json").write_text(other))
    assert '<h1 class="bad">Verdicts unknown: other</h1>' in text
    assert "its verdicts can&#39;t be read: " in text
    assert "has schema 99" in text
    assert "<b>1</b> passed" in text
