"""Two sets of repeats as a table."""

from qmptests.report import comparison
from qmptests.report.comparison import judge

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
    table = judge(A, B)
    assert [row.name for row in table] == ["downtime", "total", "noisy"]
    assert [row.worse for row in table] == [True, False, False]
    assert [row.worse for row in judge(B, A)] == [False, False, False]


def test_it_fits_a_mail() -> None:
    lines = list(comparison.lines(judge(A, B), "11.1.3", "a build tree"))
    assert all(len(line) <= 72 for line in lines), max(lines, key=len)
    text = "\n".join(lines)
    assert "A: 11.1.3" in text
    downtime, total, noisy = lines[3:]
    assert downtime.endswith(" worse")
    assert total.endswith(" same")
    assert "? (~" in noisy
    better = list(comparison.lines(judge(B, A), "B", "A"))[3]
    assert better.endswith(" better")
