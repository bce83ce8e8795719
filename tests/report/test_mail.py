"""A run with a failure, as a mail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests import builds
from qmptests.matrix.results import RunResults
from qmptests.report import mail, runs
from qmptests.report.runs import Run

NEW = "debian:trixie-backports"
TEST = """
import pytest

def test_passes():
    pass

@pytest.mark.qemu_cells("machine=*q35*", select="smoke")
@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize("number", range(2))
def test_is_red(migration, vfio, number):
    rule = "precopy-info:final+reinit=1M"
    device = vfio.emulated("idle", initial="64K", when=[rule])
    capabilities = ["return-path", "switchover-ack"]
    outcome = migration(vm="none", devices=[device], capabilities=capabilities).run()
    assert outcome.completed, outcome

@pytest.mark.parametrize("word", ["one", "two", "three"])
def test_fails_otherwise(word):
    assert not word, word
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mail")
    (folder / "test_mail_of.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["--qemu-matrix", "smoke", "--qemu-build", NEW, "--qemu-same-build"]
    command = [sys.executable, "-m", "pytest", "-q", *options, "--qemu-results", "run"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return folder / "run"


def test_it_has_the_cause_the_setting_and_both_sides_traces(run: Path) -> None:
    lines = list(mail.lines(runs.read(run)))
    assert all(len(line) <= 72 for line in lines), max(lines, key=len)
    text = "\n".join(lines)
    assert lines[0] == "6 tests: 1 passed, 5 failed"
    build = builds.resolve(NEW)
    assert "Switchover ACK was requested by 1 devices during switchover" in text
    assert f"## failed, 2 times: test_mail_of.py::test_is_red [s{build.name}" in " ".join(
        text.split()
    )
    assert " ".join(text.split()).count(f"{build.facts.version_text} ({NEW})") == 3
    assert "\n| pair " in text
    assert all(row.startswith(("| ", "+-")) for row in lines[lines.index("```") + 1 :][:5])
    assert "migrate: return-path switchover-ack" in text
    assert "vf0: idle" in text
    assert "seed" in text
    assert " S vfio_query_precopy_size_request_switchover_ack (vf0)" in text
    assert " D migrate_set_state new state failed" in text
    assert "And 1 more of other kinds, not told here." in text


def test_no_side_is_left_out_and_none_has_more_than_twenty_lines(run: Path) -> None:
    lines = list(mail.lines(runs.read(run)))
    rows = [line for line in lines if line[9:12] in (" S ", " D ")]
    assert len(rows) == mail.MOMENTS
    times = [float(row[:9]) for row in rows[: mail.MOMENTS]]
    assert times == sorted(times)


def test_of_a_run_that_was_cut_short_the_rest_is_told(run: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(run, short)
    (short / "results.json").unlink()
    lines = list(mail.lines(runs.read(short)))
    assert all(len(line) <= 72 for line in lines), max(lines, key=len)
    text = " ".join(" ".join(lines).split())
    assert lines[0] == "2 tests: 2 failed"
    assert "the run was cut short, its verdicts are not known" in text
    assert "Switchover ACK was requested by 1 devices during switchover" in text


def test_an_empty_run_is_a_line(tmp_path: Path) -> None:
    empty = Run(tmp_path, RunResults(started=0.0, seconds=0.1, items=[], exit=5), [])
    assert list(mail.lines(empty)) == ["0 tests: nothing ran", ""]
