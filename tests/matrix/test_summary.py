"""The account of a matrix: complete, in plain text, and not wider than a mail."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.matrix import summary, table
from qmptests.matrix.cells import Cell, Reason, cell_id
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.matrix.store import Matrix

BUILDS = ("7.2.22", "10.0.13", "11.1.3")
ORDINARY = {"vm": "dirtier", "device": "none", "transport": "unix", "capabilities": "none"}


def cell(source: str, destination: str, machine: str = "pc-q35-7.2", reason: str = "") -> Cell:
    at = {"source": source, "destination": destination, "machine": machine, **ORDINARY}
    return Cell(id=cell_id(at), coordinates=at, selected=not reason, reason=reason)


def item(of: Cell, verdict: Verdict = Verdict.PASSED, **more: object) -> ItemResult:
    where = f"compat.test_cells/test_migrates-{of.id}"
    return ItemResult(
        nodeid=f"compat/test_cells.py::test_migrates[{of.id}]",
        verdict=verdict,
        seconds=0.25,
        cell=of.id,
        coordinates=of.coordinates,
        evidence=where,
        **more,  # type: ignore[arg-type]
    )


def matrix_of(*cells: Cell) -> Matrix:
    return Matrix(
        select="smoke", accelerator="tcg", builds={}, vms={}, devices={}, capabilities={},
        cells=list(cells),
    )  # fmt: skip


def account(*items: ItemResult, cells: tuple[Cell, ...] = (), **more: object) -> list[str]:
    given = cells or tuple(
        {i.cell: Cell(id=i.cell, coordinates=i.coordinates, selected=True) for i in items}.values()
    )
    results = RunResults(started=0.0, seconds=12.4, items=list(items), exit=0, **more)  # type: ignore[arg-type]
    return summary.lines(matrix_of(*given), results, Path("out"))


OLD, NEW, LAST = cell("7.2.22", "11.1.3"), cell("11.1.3", "7.2.22"), cell("10.0.13", "11.1.3")
verdicts = st.sampled_from(Verdict)
cells_ = st.builds(cell, st.sampled_from(BUILDS), st.sampled_from(BUILDS))
words = st.text(st.characters(codec="utf-8"), max_size=30)
items = st.builds(
    lambda of, verdict, reason, result, issue: item(
        of, verdict, because=" ".join(reason), result=result, issue=issue
    ),
    cells_, verdicts, st.lists(words, max_size=40), st.sampled_from(["", "completed", "lost"]),
    st.sampled_from(["", "one", "two"]),
)  # fmt: skip
runs = st.lists(items, max_size=40)


@given(runs, st.lists(words, max_size=3))
def test_no_line_is_wider_than_a_mail_unless_one_name_is(
    run: list[ItemResult], findings: list[str]
) -> None:
    lines = account(*run, cells=(OLD, NEW), findings=findings, not_run=["f.py::test[x]"] * 9)
    for line in lines:
        assert len(line) <= summary.WIDTH or len(line.split()) <= 2, line
        assert line.isprintable()


@given(runs)
def test_the_total_row_counts_every_item(run: list[ItemResult]) -> None:
    shown = table.lines(run)
    heading, *rows = [re.split(r" {2,}", line.strip()) for line in shown] or [[]]
    for verdict in Verdict:
        number = sum(i.verdict is verdict for i in run)
        assert (verdict in heading) == (number > 0)
        if not number:
            continue
        # Read by the column's right edge: an empty cell has no text to be split at.
        end = shown[0].index(f" {verdict}") + len(verdict) + 1
        assert int(shown[-1][end - 3 : end]) == number
        by_pair = [int(line[end - 3 : end].strip() or 0) for line in shown[1:]]
        assert sum(by_pair[:-1] or by_pair) == number
    assert len({tuple(row) for row in rows}) == len(rows)


@given(runs)
def test_every_bad_item_is_counted_in_its_group_or_in_what_is_left(run: list[ItemResult]) -> None:
    text = "\n".join(account(*run, cells=(OLD, NEW)))
    bad = sum(i.verdict.bad for i in run)
    kinds = "|".join(v for v in Verdict if v.bad)
    groups = re.findall(rf"^(?:(\d+) times )?(?:{kinds})(?: \([^)]*\))?: s", text, re.MULTILINE)
    left = re.findall(r"^and (\d+) more, see results.json$", text, re.MULTILINE)
    assert sum(int(number or 1) for number in groups) + sum(map(int, left)) == bad
    assert len(groups) <= summary.GROUPS


def test_what_was_not_checked_of_good_ones_is_counted_by_its_kind() -> None:
    guest, both = (
        "guest and memory not checked",
        "guest and memory not checked; xbzrle: not checked",
    )
    lines = account(
        item(OLD, not_checked=guest),
        item(NEW, not_checked=both),
        item(LAST, Verdict.FAILED, not_checked=guest),
    )
    said = "not everything was checked: guest and memory not checked (2 tests); xbzrle: not checked"
    assert f"{said} (1 test)" in "\n".join(lines)
    assert "checked" not in "\n".join(account(item(OLD)))


def test_the_whole_account_of_a_run() -> None:
    lines = account(
        item(OLD, downtime_ms=4, result="completed"),
        item(NEW, Verdict.FAILED, result="timed-out", because="no end in 60 s"),
        cells=(OLD, NEW, LAST, cell("7.2.22", "7.2.22", reason="same-build")),
        not_run=["test_cells.py::test_migrates[x]"],
        findings=["k.toml: issue 'a' expired"],
    )
    assert lines == [
        "pair              cells  passed  failed  machines  median  downtime",
        "7.2.22 -> 11.1.3      1       1          q35 7.2   0.25 s      4 ms",
        "11.1.3 -> 7.2.22      1               1  q35 7.2   0.25 s",
        "total                 2       1       1  q35 7.2   0.25 s      4 ms",
        "",
        "failed (timed-out): s11.1.3-d7.2.22-m.q35-7.2",
        "  no end in 60 s",
        "  evidence: compat.test_cells/test_migrates-s11.1.3-d7.2.22-m.q35-7.2",
        "",
        "to repeat one without qmptests: `sh EVIDENCE/reproduce.sh` in the run folder",
        "",
        "finding: k.toml: issue 'a' expired",
        "",
        "1 not run, since the run was stopped: test_migrates[x]",
        "",
        "1 cell can't exist: 1 would go from a build to itself",
        "",
        "1 passed, 1 failed, 1 not run of 3 cells in 12 s; 1 can't exist; evidence: out",
    ]


def test_pairs_are_in_the_order_of_the_matrix_whatever_finished_first() -> None:
    rows = account(item(LAST), item(NEW), item(OLD), cells=(OLD, NEW, LAST))[1:4]
    assert [row.split("  ")[0] for row in rows] == [
        "7.2.22 -> 11.1.3",
        "11.1.3 -> 7.2.22",
        "10.0.13 -> 11.1.3",
    ]


def test_failures_that_differ_in_figures_only_are_one_group() -> None:
    alike = [
        item(OLD, Verdict.FAILED, because=f"page {n} at 0x{n:x}") for n in (10, 11, 12, 13, 14)
    ]
    other = item(NEW, Verdict.FAILED, because="page lost")
    text = "\n".join(account(*alike, other))
    assert "5 times failed: s7.2.22-d11.1.3-m.q35-7.2\n  page 10 at 0xa\n" in text
    assert " and 1 more\n" in text
    assert "\nfailed: s11.1.3-d7.2.22-m.q35-7.2\n  page lost\n" in text


def test_more_kinds_of_failure_than_a_reader_can_bear_are_counted() -> None:
    letters = "abcdefghijklmnop"
    bad = [item(OLD, Verdict.FAILED, because=letter * 3) for letter in letters for _ in range(2)]
    assert f"and {2 * (len(letters) - summary.GROUPS)} more, see results.json" in account(*bad)


def test_a_reason_is_told_without_timestamps_and_with_its_end() -> None:
    said = "2026-11-22T22:36:57.045837Z qemu-system-x86_64: load failed: " + "why " * 100 + "vring"
    (told,) = {summary.reason(item(OLD, Verdict.FAILED, because=said))}
    assert told.startswith("load failed: why")
    assert told.endswith("vring")
    assert len(told) <= 240


def test_expected_failures_are_counted_by_their_issue() -> None:
    run = [item(OLD, Verdict.EXPECTED, issue="vring") for _ in range(4)]
    lines = account(*run, issues={"vring": "docs/vring.md", "other": "nowhere"})
    assert "4 expected, known issue vring (docs/vring.md)" in lines
    assert lines[-1].startswith("4 expected (known issues) of ")


def test_a_lost_cell_has_nothing_to_repeat() -> None:
    text = "\n".join(account(item(OLD, Verdict.LOST, result="lost", because="worker died")))
    assert "\nlost: s7.2.22-d11.1.3-m.q35-7.2\n  worker died\n  evidence: " in text
    assert "reproduce.sh" not in text


def test_tests_without_a_cell_have_a_row_of_their_own() -> None:
    lines = account(item(OLD), ItemResult(nodeid="a.py::b", verdict=Verdict.PASSED, seconds=1.0))
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "7.2.22 -> 11.1.3",
        "other tests",
        "total",
    ]


def test_a_run_of_nothing_says_so() -> None:
    assert account(cells=(OLD,))[-1] == "nothing ran of 1 cell in 12 s; evidence: out"


def test_long_names_of_builds_are_cut_rather_than_the_table_broken() -> None:
    long = cell("10.0.13-" + "a" * 50, "11.1.3-" + "b" * 50)
    for line in table.lines([item(long), item(OLD)]):
        assert len(line) <= summary.WIDTH


def test_every_reason_has_words() -> None:
    assert set(summary.PRUNED) == set(Reason)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["pc-q35-10.0", "pc-q35-2.4", "pc-q35-9.2"], "q35 2.4 to 10.0"),
        (["pc-q35-10.0", "pc-i440fx-4.0"], "i440fx 4.0, q35 10.0"),
        (["virt-9.0", "virt-10.0", "microvm"], "microvm, virt 9.0 to 10.0"),
        (["s390-ccw-virtio-9.2"], "s390-ccw-virtio 9.2"),
        ([], ""),
    ],
)
def test_machines_are_a_range_for_each_family(names: list[str], said: str) -> None:
    assert table.machine_range(names) == said
