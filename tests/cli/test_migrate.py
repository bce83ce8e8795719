"""`qmptests migrate`, as a person runs it."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILDS = ("--source", "debian:trixie", "--destination", "debian:trixie-backports")


def qmptests(*args: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qmptests.cli.main", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "TMPDIR": str(cwd)},
    )


@pytest.mark.smoke
def test_it_says_in_a_few_lines_what_happened(tmp_path: Path) -> None:
    result = qmptests("migrate", *BUILDS, "--output", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = {line[:12].strip(): line[13:] for line in result.stdout.splitlines()}
    assert lines["source"].endswith("(debian:trixie), then postmigrate")
    assert lines["destination"].endswith("(debian:trixie-backports), then running")
    assert lines["QEMU says"].startswith("completed, total ")
    assert lines["precopy"].endswith(" ms from migrate to the decision to switch over")
    assert lines["downtime"].endswith(" ms from VM stop to VM running")
    assert lines["memory"].startswith("4096 pages right, pass ")
    assert lines["result"] == "completed"
    assert lines["evidence"] == f"{tmp_path}/out (reproduce.sh repeats it)"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # and nothing else
    assert json.loads((tmp_path / "out" / "analysis.json").read_bytes())["analyser"] == 1


def test_without_output_each_run_has_a_new_folder(tmp_path: Path) -> None:
    for _ in range(2):
        assert qmptests("migrate", *BUILDS, "--vm", "none", "-q", cwd=tmp_path).returncode == 0
    folders = [path.name for path in (tmp_path / "qmptests-results").iterdir()]
    assert len(folders) == 2
    assert all("-m.q35-10.0-v.none" in name for name in folders)


def test_the_outcome_as_json_on_standard_output(tmp_path: Path) -> None:
    result = qmptests("migrate", *BUILDS, "--vm", "none", "--json", "-", cwd=tmp_path)
    assert json.loads(result.stdout)["result"] == "completed"
    assert "result       completed" in result.stderr


def test_a_failure_is_status_1_with_the_reason(tmp_path: Path) -> None:
    result = qmptests("migrate", *BUILDS, "--vm", "none", "--destination-args=-m 512", cwd=tmp_path)
    assert result.returncode == 1
    assert "result       failed-destination-exited (expected: completed)" in result.stdout
    assert "Size mismatch: pc.ram: 0x10000000 != 0x20000000" in result.stdout


def test_what_was_expected_is_status_0(tmp_path: Path) -> None:
    result = qmptests(
        *("migrate", *BUILDS, "--vm", "none", "--cancel-at", "active", "--expect", "cancelled"),
        cwd=tmp_path,
    )
    assert result.returncode == 0
    assert "QEMU says    cancelled" in result.stdout


def test_a_value_that_qemu_refuses_is_status_2(tmp_path: Path) -> None:
    result = qmptests(
        "migrate", *BUILDS, "--vm", "none", "--parameter", "downtime-limit=soon", cwd=tmp_path
    )
    assert result.returncode == 2
    assert "Parameter 'downtime-limit' expects uint64" in result.stdout


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--vm", "nope"], "unknown VM definition 'nope': there are dirtier, none"),
        (["--machine", "pc-q35-99.9"], "pc-q35-99.9"),
        (["--capability", "teleport"], "has no migration capability 'teleport'"),
        (["--parameter", "x"], "'x' is not NAME=VALUE"),
        (["--destination", ""], "Invalid value for '--destination': it is empty: leave it out"),
        (["--accel", "warp"], "has no accelerator 'warp'"),
        (["--wrapper", "no-gdb --args"], "the wrapper 'no-gdb' is not a program"),
        (["--wrapper", "gdb 'x"], '--wrapper "gdb \'x": No closing quotation'),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path: Path, args: list[str], line: str) -> None:
    result = qmptests("migrate", *BUILDS, *args, cwd=tmp_path)
    assert result.returncode == 2
    (error,) = result.stderr.splitlines()
    assert error.startswith("qmptests: error: ")
    assert line in error
    assert not list(tmp_path.iterdir())


def test_empty_words_for_qemu_are_no_words(tmp_path: Path) -> None:
    empty = ("--source-args", "", "--destination-args=", "--wrapper", "")
    result = qmptests("migrate", *BUILDS, "--vm", "none", *empty, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_help_teaches(tmp_path: Path) -> None:
    result = qmptests("migrate", "--help", cwd=tmp_path)
    assert "qmptests migrate --source debian:trixie --destination debian:trixie-backports" in (
        result.stdout
    )


ALL = ("debian:bookworm", "debian:bookworm-backports", "debian:trixie", "debian:trixie-backports")


@pytest.mark.parametrize(("source", "destination"), list(itertools.permutations(ALL, 2)))
def test_every_ordered_pair_of_the_debian_builds(
    tmp_path: Path, source: str, destination: str
) -> None:
    """On the newest machine type that both know, with a guest whose memory is checked."""
    result = qmptests(
        "migrate", "--source", source, "--destination", destination, "--output", "o", cwd=tmp_path
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4096 pages right" in result.stdout
