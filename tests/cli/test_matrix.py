"""`qmptests matrix`, as a person runs it, on real builds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qmptests.cli.matrix import status
from qmptests.matrix import results, store
from qmptests.matrix.results import ItemResult, RunResults, Verdict

PAIR = ("--source", "debian:trixie", "--destination", "debian:trixie-backports")
SMALL = (*PAIR, "--machine", "q35")
CELL = "s10.0-d11.1-m.q35-10.0"


pytestmark = pytest.mark.usefixtures("named_builds")


def matrix(*args: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qmptests.cli.main", "matrix", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "TMPDIR": str(cwd), **environment},
    )


@pytest.mark.smoke
def test_a_matrix_is_run_and_told_in_a_few_lines(tmp_path: Path) -> None:
    done = matrix(*PAIR, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["pair", "cells", "passed", "machines", "median", "downtime"]
    assert re.fullmatch(
        r"10\.0 -> 11\.1 +2 +2 +i440fx 10\.0, q35 10\.0 +\d+\.\d\d s +\d+ ms", lines[1]
    )
    assert re.fullmatch(
        r"2 passed of 2 cells in [\d.]+ s; \d+ can't exist; evidence: out", lines[-1]
    )
    assert done.stderr == f"2 cells; evidence: {tmp_path}/out\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # and nothing else


def test_the_run_folder_holds_what_was_asked_for_and_what_became_of_it(tmp_path: Path) -> None:
    assert matrix(*SMALL, "-q", "--output", "out", cwd=tmp_path).returncode == 0
    out = tmp_path / "out"
    tests = "qmptests.suites.compat.test_cells"
    names = {"cells.json", "builds.json", "results.json", "pytest.log", tests}
    assert {path.name for path in out.iterdir()} == names
    (cell,) = store.read(out).selected
    (item,) = results.read(out).items
    assert (cell.id, item.cell, item.verdict) == (CELL, CELL, Verdict.PASSED)
    assert item.evidence == f"{tests}/test_migrates-{CELL}"
    assert json.loads((out / item.evidence / "outcome.json").read_bytes())["result"] == "completed"
    assert "1 passed" in (out / "pytest.log").read_text()


def test_the_log_is_kept_from_another_file_system_too(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system to write to")
    done = matrix(*SMALL, "-q", "--output", "out", cwd=tmp_path, TMPDIR=str(other))
    assert done.returncode == 0, done.stderr
    assert "1 passed" in (tmp_path / "out" / "pytest.log").read_text()


def test_the_results_as_json_on_standard_output(tmp_path: Path) -> None:
    done = matrix(*SMALL, "--json", "--junit", "j.xml", "--output", "out", cwd=tmp_path)
    assert done.stdout == (tmp_path / "out" / "results.json").read_text()
    assert "1 passed of 1 cell" in done.stderr
    assert CELL in (tmp_path / "j.xml").read_text()


def test_a_list_runs_nothing(tmp_path: Path) -> None:
    done = matrix(*PAIR, "--list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, counts, *pruned = done.stdout.splitlines()
    assert [first, second] == ["s10.0-d11.1-m.i440fx-10.0", CELL]
    assert re.fullmatch(r"2 cells \(smoke\) of \d+ that can exist", counts)
    assert re.match(r"\d+ cells can't exist: \d+ have a machine type that one side", pruned[0])
    assert list(tmp_path.iterdir()) == []


def test_a_list_as_json_is_what_a_run_writes(tmp_path: Path) -> None:
    listed = matrix(*SMALL, "--list", "--json", cwd=tmp_path).stdout
    assert matrix(*SMALL, "-q", "--output", "out", cwd=tmp_path).returncode == 0
    assert listed == (tmp_path / "out" / "cells.json").read_text()


def test_failures_that_are_alike_are_told_once(tmp_path: Path) -> None:
    done = matrix(*PAIR, "--destination-args=-m 512", "--output", "out", cwd=tmp_path)
    assert done.returncode == 1
    groups = [line for line in done.stdout.splitlines() if re.match(r"(\d+ times )?failed", line)]
    assert groups == [
        f"2 times failed (failed-destination-exited): {CELL.replace('q35', 'i440fx')}"
    ]
    assert "Size mismatch: pc.ram: 0x10000000 !=\n    0x20000000" in done.stdout
    assert f"\n  also {CELL}\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 failed of 2 cells in ")
    assert len([line for line in done.stderr.splitlines() if line.startswith("failed")]) == 2


def test_it_stops_at_the_first_failure_and_says_what_was_not_run(tmp_path: Path) -> None:
    for workers in ("0", "1"):
        out = f"out-{workers}"
        done = matrix(
            *(*PAIR, "--destination-args=-m 512", "-x", "-n", workers, "--output", out),
            cwd=tmp_path,
        )
        assert done.returncode == 1, done.stderr
        assert f"1 not run, since the run was stopped: test_migrates[{CELL}]" in done.stdout
        assert "interrupted" not in done.stderr


def test_a_known_issue_is_expected_and_a_stale_one_a_finding(tmp_path: Path) -> None:
    entry = """
    [[issue]]
    name = "size"
    reference = "https://example.org/1"
    expires = 2999-01-01
    result = "failed-destination-exited"
    side = "destination"
    stage = "active"
    text = "Size mismatch"
    cells = "destination=11*"
    """
    (tmp_path / "known.toml").write_text(entry)
    known = ("--known-issues", "known.toml")
    done = matrix(*SMALL, *known, "--destination-args=-m 512", "--output", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 expected, known issue size (https://example.org/1)" in done.stdout
    done = matrix(*SMALL, *known, "--output", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert f"finding: known.toml: issue 'size': {CELL} passed" in done.stdout


def test_nothing_that_runs_is_no_success(tmp_path: Path) -> None:
    done = matrix(*SMALL, "-k", "nothing_like_it", "--output", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing ran" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--machine", "pc-q36-1"), "no machine type of 10.0, 11.1 matches 'pc-q36-1'"),
        (("--cell", "machine=nothing"), "'machine=nothing' selects none of the "),
        (("--cell", "color=red"), "cell expression 'color=red': unknown axis 'color'"),
        (("--build", "debian:trixie"), "builds, sources and destinations are all named"),
        (("--capabilities", "multfd"), "no build has a migration capability 'multfd': did you"),
        (("--device", "flux"), "unknown device profile 'flux'"),
        (("--transport", "rdma"), "unknown transport 'rdma'"),
        (("--vm", "nothing"), "unknown VM definition 'nothing'"),
        (("--args", "'open"), '--args "\'open": No closing quotation'),
        (("-k", ""), "Invalid value for '-k': it is empty: leave it out"),
        (("--cell", " "), "Invalid value for '--cell': it is empty"),
        (("--build", ""), "Invalid value for '--build': it is empty"),
        (("-k", "a b"), "Wrong expression passed to '-k': a b"),
        (("-n", "many"), "Invalid value for '-n' / '--workers': 'many' is neither"),
        (("--known-issues", "nothing.toml"), "cannot read known issues nothing.toml"),
        (("--junit", "nowhere/j.xml"), "cannot write nowhere/j.xml"),
        (("--output", "there"), "there exists already: results are never overwritten"),
        (("--accel", "warp"), "the matrix has no cell that can exist"),
    ],
)
def test_bad_input_is_one_line(args: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done = matrix(*PAIR, "-q", *args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("qmptests: error: ")
    assert says in line
    assert done.stdout == ""
    assert not (tmp_path / "there").is_symlink()
    assert list((tmp_path / "there").iterdir()) == []


def test_nothing_of_the_working_directory_disturbs_pytest(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --no-such-option\nqemu_vm = nothing\n"
    )
    (tmp_path / "conftest.py").write_text("raise RuntimeError\n")
    done = matrix(*(*SMALL, "-q", "--output", "out"), cwd=tmp_path, PYTEST_ADDOPTS="--another-one")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "pytest.log").exists()


def test_a_pytest_that_does_not_start_is_told_with_the_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (broken / "entry_points.txt").write_text("[pytest11]\nbroken = no_such_module\n")
    could_not_run(tmp_path, "no_such_module", "")


def test_tests_that_cannot_be_imported_are_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules['qmptests.suites.compat.hardware'] = None\n"
    )
    log = tmp_path / "out" / "pytest.log"
    could_not_run(tmp_path, "qmptests.suites.compat.hardware", f": see {log}")


def could_not_run(modules: Path, says: str, where: str) -> None:
    """Run a matrix with other modules in Python's path, whereupon no test runs."""
    path = os.pathsep.join([str(modules), *sys.path])
    done = matrix(*SMALL, "-q", "--output", "out", cwd=modules, PYTHONPATH=path)
    assert done.returncode == 3
    first, *rest = done.stderr.splitlines()
    assert first == f"qmptests: error: pytest could not run the cells{where}"
    assert any(says in line for line in rest)
    assert all(line.startswith("  | ") for line in rest)


def test_workers_share_the_cells(tmp_path: Path) -> None:
    done = matrix(*PAIR, "-n", "2", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    run = results.read(tmp_path / "out")
    assert {item.worker for item in run.items} == {"gw0", "gw1"}
    assert [line.split()[0] for line in done.stdout.splitlines()[1:2]] == ["10.0"]


def run_of(*verdicts: Verdict, findings: int = 0, end: int = 0) -> RunResults:
    items = [ItemResult(nodeid=str(n), verdict=v, seconds=1) for n, v in enumerate(verdicts)]
    return RunResults(started=0, seconds=1, items=items, findings=["x"] * findings, exit=end)


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of(Verdict.PASSED, Verdict.EXPECTED, Verdict.SKIPPED), 0),
        (run_of(Verdict.EXPECTED), 0),
        (run_of(Verdict.PASSED, Verdict.FAILED), 1),
        (run_of(Verdict.PASSED, Verdict.LOST), 1),
        (run_of(Verdict.PASSED, Verdict.ERROR), 3),
        (run_of(Verdict.FAILED, Verdict.ERROR), 1),
        (run_of(Verdict.PASSED, findings=1), 1),
        (run_of(Verdict.SKIPPED), 1),
        (run_of(), 1),
        (run_of(Verdict.PASSED, end=3), 3),
    ],
)
def test_the_exit_status_tells_whose_fault_it_is(run: RunResults, code: int) -> None:
    assert status(run) == code


#: `qmptests` in a second that does not pass.
IN_ONE_SECOND = """
import sys, time
from qmptests.cli.main import main
at = time.gmtime(0)
time.strftime = lambda form, *_, real=time.strftime: real(form, at)
main()
"""


@pytest.mark.parametrize("command", ["migrate", "matrix"])
def test_runs_that_start_in_one_second_in_one_directory_have_a_folder_each(
    tmp_path: Path, command: str
) -> None:
    words = (*SMALL, "-q", "--vm", "none")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", IN_ONE_SECOND, command, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    folders = sorted(path.name for path in (tmp_path / "qmptests-results").iterdir())
    first = folders[0]
    assert folders == [first, f"{first}-2", f"{first}-3"]
    shown = sorted(name for text in said for name in re.findall(r"qmptests-results/(\S+)", text))
    assert shown == folders, said
