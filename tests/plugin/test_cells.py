"""A test that takes `cell` runs once on each selected cell."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

THERE = "s10.0-d11.1-m.q35-10.0-v.none"
BACK = "s11.1-d10.0-m.q35-10.0-v.none"


@pytest.mark.smoke
def test_each_selected_cell_is_run_once(suite: "Suite", workers: tuple[str, ...]) -> None:
    suite.migrating()
    suite.write("def test_other(): pass", "test_other")
    result = suite.matrix(*workers)
    result.assert_outcomes(passed=3)
    assert [cell.id for cell in suite.cells.selected] == [THERE, BACK]
    items = suite.items
    assert {name: item.verdict for name, item in items.items()} == {
        THERE: "passed",
        BACK: "passed",
        "test_other": "passed",
    }
    assert items[THERE].nodeid == f"test_it.py::test_it[{THERE}]"
    assert items[THERE].evidence == f"test_it/test_it-{THERE}"
    assert items[THERE].coordinates == suite.cells.selected[0].coordinates
    assert items[THERE].cell == THERE
    assert items["test_other"].cell == ""
    assert bool(items[THERE].worker) is bool(workers)
    record = suite.outcome(THERE)
    assert (record["cell"], record["result"]) == (THERE, "completed")
    assert (record["source"]["build"]["name"], record["plan"]["machine"]) == (
        "10.0",
        "pc-q35-10.0",
    )
    assert items[THERE].downtime_ms == record["attempts"][0]["times"]["downtime_ms"]
    assert suite.results.exit == 0
    assert (suite.results.findings, suite.results.not_run) == ([], [])
    result.stdout.fnmatch_lines(["*10.0 -> 11.1*", "*3 passed*"])
    there = {path.name for path in suite.folder.iterdir()}
    assert there == {"cells.json", "builds.json", "results.json", "test_it"}
    assert suite.partial() == []


def test_ids_can_be_selected_and_cells_by_their_coordinates(
    suite: "Suite", workers: tuple[str, ...]
) -> None:
    suite.migrating()
    suite.matrix(*workers, "-k", "s10.0-d11.1").assert_outcomes(
        passed=1, deselected=0 if workers else 1
    )
    assert list(suite.items) == [THERE]
    suite.folder.rename(suite.path / "first")
    suite.matrix(*workers, "--qemu-cell=source=11*,machine=*q35*").assert_outcomes(passed=1)
    assert list(suite.items) == [BACK]
    assert [cell.id for cell in suite.cells.selected] == [BACK]
    assert suite.cells.expressions == ["source=11*,machine=*q35*"]


def test_each_build_of_the_selected_cells_by_itself(
    suite: "Suite", workers: tuple[str, ...]
) -> None:
    suite.write(
        """
        import pytest

        @pytest.mark.qemu_needs(version=">=11")
        def test_newer(same_build): pass

        @pytest.mark.qemu_cells("source=1*")
        def test_it(same_build, source_build, destination_build, migration):
            plan = migration().plan
            assert plan.source == plan.destination == same_build
            assert source_build == destination_build == same_build
        """
    )
    suite.matrix(*workers).assert_outcomes(passed=3, skipped=1)
    found = [(i.nodeid.partition("::")[2], i.verdict) for i in suite.results.items]
    assert sorted(found) == [
        ("test_it[10.0]", "passed"),
        ("test_it[11.1]", "passed"),
        ("test_newer[10.0]", "skipped"),
        ("test_newer[11.1]", "passed"),
    ]


def test_only_the_controller_selects_and_resolves(suite: "Suite") -> None:
    """A worker that can neither resolve a build nor probe, nor find one, runs its cells."""
    suite.write(
        """
        import os
        import pytest
        from qmptests import builds
        from qmptests.builds import probe, resolve
        from qmptests.matrix import request, selection

        def refuse(*args, **keywords):
            raise AssertionError("in a worker")

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(config):
            if hasattr(config, "workerinput"):
                os.environ["QMPTESTS_CACHE"] = "/nonexistent"
                for module in (builds, probe, resolve, request, selection):
                    for name, found in vars(module).items():
                        if callable(found) and getattr(found, "__module__", "") in (
                            "qmptests.builds.probe", "qmptests.builds.resolve",
                            "qmptests.matrix.request", "qmptests.matrix.selection",
                        ) and not isinstance(found, type):
                            setattr(module, name, refuse)
                with pytest.raises(AssertionError, match="in a worker"):
                    builds.resolve("debian:trixie")
        """,
        "conftest",
    )
    suite.migrating()
    suite.matrix("-n2").assert_outcomes(passed=2)
    assert {item.worker for item in suite.items.values()} <= {"gw0", "gw1"}


def test_without_a_matrix_one_line_says_what_to_pass(
    suite: "Suite", workers: tuple[str, ...]
) -> None:
    suite.migrating()
    result = suite.run(*workers, f"--qemu-results={suite.folder}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["the test takes `cell`, but no matrix was asked for: --qemu-matrix=smoke --qemu-build=*"]
    )
    assert not suite.folder.exists()


def test_collect_only_makes_no_run_folder(suite: "Suite", workers: tuple[str, ...]) -> None:
    suite.migrating()
    result = suite.matrix(*workers, "--collect-only", "-q")
    assert result.ret == 0
    assert result.outlines[:2] == [f"test_it.py::test_it[{THERE}]", f"test_it.py::test_it[{BACK}]"]
    assert not suite.folder.exists()


@pytest.mark.parametrize("question", ["--fixtures", "--markers", "--help", "--version"])
def test_a_question_to_pytest_makes_no_run_folder(suite: "Suite", question: str) -> None:
    assert suite.matrix_here(question).ret == 0
    assert not suite.folder.exists()


def test_cells_narrowed_by_a_mark(suite: "Suite", workers: tuple[str, ...]) -> None:
    suite.write(
        """
        import pytest

        @pytest.mark.qemu_cells("source=10.0", select="smoke")
        def test_narrow(cell):
            assert cell.coordinates["source"] == "10.0"

        @pytest.mark.qemu_cells("source=7*")
        def test_none(cell):
            raise AssertionError("not reached")
        """
    )
    result = suite.matrix(*workers, "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * none of the selected cells is one of source=7[*]"])
    assert suite.items["no-cell"].because == "none of the selected cells is one of source=7*"
    assert suite.results.exit == 0


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ('"sauce=10*"', "unknown axis 'sauce': did you mean 'source'?"),
        ('select="full"', "qemu_cells takes expressions, select='smoke'"),
    ],
)
def test_a_wrong_mark_is_one_line(
    suite: "Suite", workers: tuple[str, ...], mark: str, words: str
) -> None:
    suite.write(
        f"""
        import pytest

        @pytest.mark.qemu_cells({mark})
        def test_it(cell): pass
        """
    )
    result = suite.matrix(*workers)
    assert result.ret != 0
    lines = [line for line in result.outlines if words in line]
    assert sum(line.startswith("test_it.py::test_it: ") for line in lines) == 1
    assert all(line.startswith("ERROR test_it.py - ") for line in lines[1:])  # pytest's summary
    assert "Traceback" not in result.stdout.str()
    assert "qmptests/" not in result.stdout.str()


def test_tests_of_the_same_name_in_suites_elsewhere(
    suite: "Suite", workers: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """pytest gives them the same node id; their evidence has the name that they are imported by."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    files = []
    for package in ("one", "two"):
        folder = elsewhere / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        files.append(folder / "test_it.py")
        files[-1].write_text("def test_it(cell, migration): assert migration().run().completed")
    root = f"--rootdir={suite.path}"
    suite.matrix(*workers, root, *map(str, files)).assert_outcomes(passed=4)
    assert {item.evidence for item in suite.results.items} == {
        f"{package}.test_it/test_it-{cell}" for package in ("one", "two") for cell in (THERE, BACK)
    }
