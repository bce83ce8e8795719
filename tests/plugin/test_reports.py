"""What pytest, its reports and a JUnit file say of a cell."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.matrix.results import ItemResult

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

FOUR = """
import pytest

def test_it(cell, migration):
    there = cell.coordinates["source"] == "10.0"
    assert migration(destination_machine="pc-q35-9.2" if there else "").run().completed

@pytest.mark.qemu_cells("source=10.0")
@pytest.mark.qemu_needs(version=">=10.1", side="source")
def test_skipped(cell): pass

@pytest.mark.qemu_cells("source=10.0")
@pytest.mark.skip
def test_left_out(cell): pass
"""
FAILING_THERE = """
import pathlib

def test_it(cell):
    assert cell.coordinates["source"] != "10.0" or pathlib.Path("mended").exists()
"""


@pytest.fixture
def reported(suite: "Suite", workers: tuple[str, ...]) -> "pytest.RunResult":
    """A run of four tests: one failed, one passed, two skipped."""
    suite.write(FOUR)
    suite.write(
        """
        import json

        def pytest_configure(config):
            global worker
            worker = hasattr(config, "workerinput")

        def pytest_runtest_logreport(report):
            if not worker:
                with open("reports", "a") as file:
                    print(json.dumps(report._to_json(), default=str), file=file)
        """,
        "conftest",
    )
    return suite.matrix(*workers, "--junitxml=junit.xml")


def test_a_failing_cell_says_what_happened(
    suite: "Suite",
    workers: tuple[str, ...],
    reported: pytest.RunResult,
    junit: Callable[[], dict[str, dict[str, str]]],
) -> None:
    reported.assert_outcomes(failed=1, passed=1, skipped=2)
    (item,) = (item for item in suite.results.items if item.verdict == "failed")
    assert "Machine type received is 'pc-q35-10.0' and local is 'pc-q35-9.2'" in item.because
    reported.stdout.fnmatch_lines(
        [
            f"*- migration test_it-{item.cell} -*",
            "result       failed-destination-*",
            "because      *Machine type received is 'pc-q35-10.0' and local is 'pc-q35-9.2'*",
            f"evidence     {suite.folder}/{item.evidence} (reproduce.sh repeats it)",
        ]
    )
    check_reports(suite, item)
    check_properties(suite, junit(), item)


def check_reports(suite: "Suite", item: ItemResult) -> None:
    """They carry a verdict and a path, no logs."""
    reports = [json.loads(line) for line in (suite.path / "reports").read_text().splitlines()]
    (failure,) = [r for r in reports if r["when"] == "call" and r["outcome"] == "failed"]
    assert failure["nodeid"] == item.nodeid
    folder = suite.folder / item.evidence
    logs = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    added = [text for title, text in failure["sections"] if title.startswith("migration ")]
    assert len(added) == 1
    assert len(added[0].splitlines()) <= 30
    sizes = [len(json.dumps(report)) for report in reports]
    assert max(sizes) < 12_000
    assert logs > 2 * max(sizes)
    assert dict(failure["user_properties"])["qemu_evidence"] == item.evidence


def check_properties(suite: "Suite", cases: dict[str, dict[str, str]], item: ItemResult) -> None:
    """Each testcase has both builds, the coordinates and the host; also one that was skipped."""
    assert len(cases) == 4
    common: dict[str, Any] = {
        "qemu_source": "10.0",
        "qemu_source_spec": "debian:trixie",
        "qemu_destination": "11.1",
        "qemu_destination_spec": "debian:trixie-backports",
        "qemu_machine": "pc-q35-10.0",
        "qemu_vm": "none",
        "qemu_device": "none",
        "qemu_transport": "unix",
        "qemu_capabilities": "none",
        "qemu_accelerator": "tcg",
    }
    versions = {name: build.version_text for name, build in suite.cells.builds.items()}
    failed = cases[f"test_it[{item.cell}]"]
    host = {name: value for name, value in failed.items() if name.startswith("host_")}
    assert len(host) == 6
    assert all(host.values())
    common |= {
        **host,
        "qemu_cell": item.cell,
        "qemu_source_version": versions["10.0"],
        "qemu_destination_version": versions["11.1"],
    }
    assert cases[f"test_skipped[{item.cell}]"] == common
    assert cases[f"test_left_out[{item.cell}]"] == common
    assert failed.items() > common.items()
    assert (failed["qemu_result"], failed["qemu_evidence"]) == (item.result, item.evidence)
    assert failed["qemu_because"] == item.because
    (passed,) = (case for case in cases.values() if case["qemu_cell"] != item.cell)
    assert passed["qemu_result"] == "completed"
    assert passed["qemu_downtime_ms"].isdecimal()
    assert int(passed["qemu_total_ms"]) > int(passed["qemu_downtime_ms"])
    assert host.items() < passed.items()


def test_stopping_at_the_first_failure(suite: "Suite") -> None:
    suite.write(FAILING_THERE)
    suite.matrix_here("-x").assert_outcomes(failed=1)
    (item,) = suite.results.items
    there, back = (cell.id for cell in suite.cells.selected)
    assert (item.cell, suite.results.not_run) == (there, [f"test_it.py::test_it[{back}]"])
    assert suite.results.exit == 1


def test_the_last_failed_cells_again(suite: "Suite", workers: tuple[str, ...]) -> None:
    suite.write(FAILING_THERE)
    suite.matrix_here().assert_outcomes(failed=1, passed=1)
    there = suite.cells.selected[0].id
    suite.folder.rename(suite.path / "first")
    (suite.path / "mended").touch()
    result = suite.matrix(*workers, "--lf")
    assert result.ret == 0
    assert [item.cell for item in suite.results.items] == [there]
