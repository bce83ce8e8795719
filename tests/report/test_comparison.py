"""Two sets of repeats as a table."""

import random

from qmptests.report import comparison
from qmptests.report.comparison import confirm, judge

A = {
    "downtime": [100.0 + n for n in range(10)],
    "total": [1000.0 + n for n in range(10)],
    "noisy": [float(n * n) for n in range(10)],
    "only in A": [1.0],
}
B = {
    "downtime": [110.0 + n for n in range(10)],
    "total": [1000.5 + n for n in range(10)],
    "noisy": [1.2 * n * n for n in range(10)],
}


def test_each_figure_is_judged_and_what_one_side_lacks_is_left_out() -> None:
    (table,) = confirm([judge(A, B)])
    assert [row.name for row in table] == ["downtime", "total", "noisy"]
    assert [row.worse for row in table] == [True, False, False]
    (table,) = confirm([judge(B, A)])
    assert [row.worse for row in table] == [False, False, False]
    assert [row.told for row in table] == [True, True, False]


def test_it_fits_a_mail() -> None:
    lines = list(comparison.lines(confirm([judge(A, B)])[0], "11.1.3", "a build tree"))
    assert all(len(line) <= 72 for line in lines), max(lines, key=len)
    text = "\n".join(lines)
    assert "A: 11.1.3" in text
    downtime, total, noisy = lines[3:]
    assert downtime.endswith(" worse")
    assert total.endswith(" same")
    assert "? (~" in noisy
    better = list(comparison.lines(confirm([judge(B, A)])[0], "B", "A"))[3]
    assert better.endswith(" better")


def test_among_many_figures_a_change_needs_more_to_be_certain() -> None:
    (row,) = judge({"x": [1.0, 2, 3, 4]}, {"x": [11.0, 12, 13, 14]})
    assert row.changed
    ((alone,),) = confirm([[row]])
    assert alone.worse
    steady = judge({"y": [5.0, 6, 7, 8]}, {"y": [5.5, 6.5, 7.5, 8.5]})
    (among, *_), *others = confirm([[row], *[steady] * 9])
    assert not among.worse
    assert comparison.words(among) == "worse?"
    assert not comparison.told([among, *(row for rows in others for row in rows)])
    assert comparison.repeats_to_confirm(1) == 4
    assert comparison.repeats_to_confirm(10) == 6


def test_of_many_figures_that_have_not_changed_none_is_certain_but_one_time_in_twenty() -> None:
    source = random.Random(5)
    wrong = 0
    for _ in range(200):
        tables = [
            judge(*({"x": [source.gauss(100, 30) for _ in range(6)]} for _ in range(2)))
            for _ in range(20)
        ]
        wrong += any(row.certain and row.changed for rows in confirm(tables) for row in rows)
    assert wrong <= 20
