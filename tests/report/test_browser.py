"""The pages in a real browser: drawn, without a network, readable in any light, by keyboard."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmptests.matrix.results import Verdict
from qmptests.report import history, page, page_of_nights, runs
from tests.report.browser import Browser, browser
from tests.report.test_history import night
from tests.report.test_page import many

#: Least contrast of text (WCAG 2.2, 1.4.3).
LEAST = 4.5
CONTRASTS = """
(() => {
  const parts = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = parts(text).slice(0, 3).map((c) => {
      c /= 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!(parts(colour)[3] === 0)) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const found = {};
  for (const one of document.querySelectorAll("h1, p, li, td, th, a, summary span, code")) {
    if (!one.textContent.trim()) continue;
    const style = getComputedStyle(one), [a, b] = [light(style.color), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${one.tagName}.${one.className}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with browser() as one:
        one.size(1280, 900)
        yield one


@pytest.fixture(scope="module")
def small(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three migrations, one of which failed."""
    real = many(runs.read(run), 3)
    assert real.results
    real.results.items[1].verdict = Verdict.FAILED
    real.results.items[1].because = "it was slow"
    real.results.exit = 1
    file = tmp_path_factory.mktemp("small") / "small.html"
    page.write(real, file)
    return file


def test_it_is_drawn_without_errors_and_without_a_network(shown: Browser, small: Path) -> None:
    shown.open(small)
    assert shown.errors() == []
    assert {url.partition(":")[0] for url in shown.asked_for()} <= {"file", "blob", "data"}
    assert shown.evaluate("document.documentElement.dataset.drawn") == "1"
    assert shown.evaluate("document.querySelectorAll('.chart .main-svg').length") > 0
    assert shown.evaluate("document.querySelectorAll('.chart .point').length") == 3
    assert len(shown.picture()) > 10_000


def test_a_page_whose_script_is_broken_is_not_drawn(
    shown: Browser, small: Path, tmp_path: Path
) -> None:
    """What the tests above look for can be missing."""
    broken = tmp_path / "broken.html"
    broken.write_text(small.read_text().replace("Plotly.newPlot", "Plotly.none"))
    shown.open_only(broken)
    said = "document.querySelector('.chart').textContent"
    shown.wait_for(f"{said}.includes('can\\'t be drawn')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(shown: Browser, small: Path, scheme: str) -> None:
    shown.media(scheme=scheme)
    shown.open(small)
    ratios = shown.evaluate(CONTRASTS)
    shown.media()
    assert len(ratios) > 10
    assert {name: ratio for name, ratio in ratios.items() if ratio < LEAST} == {}


def test_charts_follow_the_scheme(shown: Browser, small: Path) -> None:
    colour = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    shown.media()
    shown.open(small)
    light = shown.evaluate(colour)
    shown.media(scheme="dark")
    shown.wait_for(f"{colour} !== '{light}'")
    shown.media()


def test_it_takes_the_keyboard(shown: Browser, small: Path) -> None:
    shown.open(small)
    on = "document.activeElement.closest('details.item')"
    for _ in range(40):
        shown.press("Tab")
        if shown.evaluate(f"{on} !== null && !{on}.open"):
            break
    shown.press("Enter", "\r")
    assert shown.evaluate(f"{on}.open") is True
    assert shown.evaluate(f"{on}.querySelectorAll('svg').length") == 2


def test_an_address_opens_its_test(shown: Browser, small: Path) -> None:
    shown.open(small, "#i3")
    assert shown.evaluate("document.getElementById('i3').open") is True
    assert shown.evaluate("document.getElementById('i1').open") is False


def test_packed_details_come_when_they_are_asked_for(
    shown: Browser, run: Path, tmp_path: Path
) -> None:
    page.write(many(runs.read(run), page.LAZY + 1), tmp_path / "many.html")
    shown.open(tmp_path / "many.html")
    place = "document.getElementById('i7').querySelectorAll('svg').length"
    assert shown.evaluate(place) == 0
    shown.evaluate("document.getElementById('i7').open = true")
    shown.wait_for(f"{place} === 2")
    assert shown.errors() == []


def test_it_prints(shown: Browser, small: Path) -> None:
    """Dark on white, whatever the screen is like."""
    shown.media("print", "dark")
    shown.open(small)
    style = "getComputedStyle(document.body)"
    assert shown.evaluate(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate(f"{style}.color") == "rgb(26, 26, 26)"
    shown.media()
    assert base64.b64decode(shown.tell("Page.printToPDF")["data"]).startswith(b"%PDF")


def test_nights_are_drawn(shown: Browser, tmp_path: Path) -> None:
    with history.History(tmp_path / "h") as known:
        for number in range(1, 6):
            verdict = Verdict.FAILED if number > 3 else Verdict.PASSED
            known.add(night(tmp_path, number, steady=Verdict.PASSED, breaks=verdict))
        page_of_nights.write(known, tmp_path / "h.html")
    shown.open(tmp_path / "h.html")
    assert shown.errors() == []
    assert shown.evaluate("document.documentElement.dataset.drawn") == "2"
