"""A run with a failure, as a mail."""

import subprocess
import sys
from pathlib import Path

import pytest

from qmptests import builds
from qmptests.errors import InputError
from qmptests.report import mail, runs

NEW = "debian:trixie-backports"
TEST = """
import pytest

def test_passes():
    pass

@pytest.mark.qemu_cells("machine=*q35*", select="smoke")
@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize("number", range(4))
def test_is_red(migration, vfio, number):
    rule = "precopy-info:final+reinit=1M"
    device = vfio.emulated("idle", initial="64K", when=[rule])
    capabilities = ["return-path", "switchover-ack"]
    outcome = migration(vm="none", devices=[device], capabilities=capabilities).run()
    assert outcome.completed, outcome
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
    assert lines[0] == "5 tests: 1 passed, 4 failed"
    build = builds.resolve(NEW)
    assert f"failed: test_mail_of.py::test_is_red[s{build.name}-d{build.name}-m.q35-" in text
    assert "Switchover ACK was requested by 1 devices during switchover" in text
    assert f"source: {build.facts.version_text} ({NEW})" in " ".join(text.split())
    assert "migrate: return-path switchover-ack" in text
    assert "vf0: idle" in text
    assert "seed" in text
    assert " S vfio_query_precopy_size_request_switchover_ack (vf0)" in text
    assert " D migrate_set_state new state failed" in text
    assert "and 1 more, not told here" in text


def test_no_side_is_left_out_and_none_has_more_than_twenty_lines(run: Path) -> None:
    lines = list(mail.lines(runs.read(run)))
    rows = [line for line in lines if line[9:12] in (" S ", " D ")]
    assert len(rows) == mail.FAILURES * mail.MOMENTS
    times = [float(row[:9]) for row in rows[: mail.MOMENTS]]
    assert times == sorted(times)


def test_a_run_that_was_cut_short_has_no_verdicts(run: Path) -> None:
    with pytest.raises(InputError, match="was cut short"):
        list(mail.lines(runs.Run(run, None, [])))
