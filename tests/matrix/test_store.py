"""The matrix and the results in their run folder: what was written is what is read."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from qmptests.builds import Build
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.matrix import expression, results, store
from qmptests.matrix.axes import Axes, all_pairs
from qmptests.matrix.cells import cells
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.matrix.selection import select
from qmptests.vm import definition, devices

EXPRESSION = "source=11.*"
RESULTS = RunResults(
    started=1.5,
    seconds=2.25,
    items=[
        ItemResult(
            nodeid="t.py::test[x]",
            verdict=Verdict.LOST,
            seconds=0.5,
            coordinates={"source": "a"},
            downtime_ms=0,
        ),
        ItemResult(nodeid="t.py::test_it", verdict=Verdict.PASSED, seconds=0.5),
    ],
    findings=["a known issue is stale"],
    issues={"stuck": "https://gitlab.com/qemu-project/qemu/-/issues/1"},
    not_run=["t.py::test[y]"],
    exit=1,
    tests=2,
)


@pytest.fixture(scope="module")
def axes(real_builds: list[Build]) -> Axes:
    return Axes(
        pairs=all_pairs(real_builds),
        vms=[definition.load("dirtier"), definition.load("none")],
        machines=["q35", "pc-i440fx-2.4"],
        devices=[None, devices.load("virtio-net,mq=on")],
        transports=["unix", "fd"],
        capabilities=[{}, {"multifd": True, "return-path": False}],
    )


@pytest.fixture(scope="module")
def matrix(axes: Axes) -> store.Matrix:
    found = select(cells(axes), "pairwise", [expression.parse(EXPRESSION)])
    return store.make(axes, found, "pairwise", [EXPRESSION])


def test_a_test_that_is_lost_from_the_results_is_missed(tmp_path: Path) -> None:
    results.write(tmp_path, RESULTS)
    file = tmp_path / results.RESULTS
    whole = msgspec.json.decode(file.read_bytes())
    for items in (whole["items"][1:], whole["items"] * 2):
        file.write_bytes(msgspec.json.encode({**whole, "items": items}))
        with pytest.raises(InputError, match=f"is damaged: {len(items)} of 2 tests are there"):
            results.read(tmp_path)


@pytest.fixture
def run(tmp_path: Path, matrix: store.Matrix, axes: Axes) -> Path:
    store.write(tmp_path, matrix, axes.builds)
    results.write(tmp_path, RESULTS)
    return tmp_path


def test_a_run_folder_gives_back_what_was_put_in(
    run: Path, matrix: store.Matrix, axes: Axes
) -> None:
    assert store.read(run) == matrix
    assert store.read_builds(run) == {build.name: build for build in axes.builds}
    assert results.read(run) == RESULTS
    assert sorted(path.name for path in run.iterdir()) == [
        "builds.json",
        "cells.json",
        "results.json",
    ]


def test_a_matrix_tells_its_cells_apart(matrix: store.Matrix) -> None:
    assert 0 < len(matrix.selected) < len(matrix.live) < len(matrix.cells)
    assert all(cell.reason for cell in matrix.cells if cell not in matrix.live)
    assert {cell.coordinates["source"] for cell in matrix.selected} == {"11.1.3"}


def test_the_names_in_each_cell_stand_for_something(run: Path, axes: Axes) -> None:
    matrix, builds = store.read(run), store.read_builds(run)
    profile = axes.devices[1]
    for cell in matrix.selected:
        plan, at = matrix.plan(cell, builds), cell.coordinates
        assert (plan.source.name, plan.destination.name) == (at["source"], at["destination"])
        assert (plan.machine, plan.transport) == (at["machine"], at["transport"])
        assert plan.definition == definition.load(at["vm"])
        assert plan.devices == (() if at["device"] == "none" else (profile,))
        multifd = {"multifd": True, "return-path": False}
        assert plan.capabilities == ({} if at["capabilities"] == "none" else multifd)
        assert (plan.accelerator, plan.cell) == ("tcg", cell.id)
    for axis in ("vm", "device", "transport", "capabilities"):
        assert len({cell.coordinates[axis] for cell in matrix.selected}) == 2


def test_the_versions_of_the_builds_are_in_the_matrix(matrix: store.Matrix) -> None:
    versions = {name: build.version for name, build in matrix.builds.items()}
    assert versions == {name: name for name in ("7.2.22", "10.0.2", "10.0.13", "11.1.3")}


FILES: dict[str, Callable[[Path], object]] = {
    "cells.json": store.read,
    "builds.json": store.read_builds,
    "results.json": results.read,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"cells\n",
        b'"\xff"',
        b"[" * 100_000,
        b"[1, 2]",
        b"null",
        b'{"schema": 1}',
        b'{"schema": 1, "select": 5, "started": "now"}',
    ],
    ids=[
        "empty",
        "binary",
        "text",
        "not UTF-8",
        "deep",
        "list",
        "null",
        "too little",
        "other types",
    ],
)
def test_what_is_no_such_file_is_bad_input_in_one_line_that_names_it(
    tmp_path: Path, name: str, data: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(InputError) as it:
        FILES[name](tmp_path)
    assert str(it.value).startswith(f"{file} ")
    assert "\n" not in str(it.value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_which_the_end_is_missing_is_bad_input(run: Path, name: str) -> None:
    data = (run / name).read_bytes()
    for length in (len(data) // 2, len(data) - 2):
        (run / name).write_bytes(data[:length])
        with pytest.raises(InputError, match=rf"^{run / name} is (no|not) .*truncated"):
            FILES[name](run)


@pytest.mark.parametrize("name", ["cells.json", "results.json"])
@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_bad_input(run: Path, name: str, schema: object) -> None:
    raw = msgspec.json.decode((run / name).read_bytes())
    (run / name).write_bytes(msgspec.json.encode({**raw, "schema": schema}))
    with pytest.raises(InputError) as it:
        FILES[name](run)
    assert str(it.value) == f"{run / name} has schema {schema}, this qmptests reads 1"


@pytest.mark.parametrize(
    ("name", "what"),
    [("cells.json", "matrix"), ("builds.json", "builds"), ("results.json", "results")],
)
def test_a_folder_that_is_no_run_is_bad_input(run: Path, name: str, what: str) -> None:
    (run / name).unlink()
    with pytest.raises(InputError, match=f"^no {what} in {run}: No such file or directory$"):
        FILES[name](run)
    with pytest.raises(InputError, match=f"^no {what} in {run}/x: No such file or directory$"):
        FILES[name](run / "x")


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_cannot_be_written_is_the_environments_failure(
    tmp_path: Path, matrix: store.Matrix, name: str
) -> None:
    """Root may write nearly everywhere, but not a file where a folder is."""
    (tmp_path / name).mkdir()
    with pytest.raises(EnvironmentFailure, match=rf"^cannot write .*{tmp_path}.*: Is a directory"):
        (
            results.write(tmp_path, RESULTS)
            if name == "results.json"
            else store.write(tmp_path, matrix, [])
        )
    gone = tmp_path / "gone"
    with pytest.raises(EnvironmentFailure, match=rf"^cannot write .*{gone}.*: No such file"):
        results.write(gone, RESULTS)
    with pytest.raises(EnvironmentFailure, match=rf"^cannot write .*{gone}.*: No such file"):
        store.write(gone, matrix, [])


def test_results_are_replaced_in_one_step(run: Path) -> None:
    later = msgspec.structs.replace(RESULTS, exit=0)
    results.write(run, later)
    assert results.read(run) == later
    assert not list(run.glob("*.new"))
