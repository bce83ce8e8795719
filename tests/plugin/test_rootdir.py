"""pytest takes the value of an option it does not know yet for a path: the ini file gets lost."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

TEST = """
from qmptests.fixtures.options import pair

def test_it(request):
    assert pair(request.config) == ({source!r}, "debian:forky")
"""


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A QEMU outside the project."""
    path = tmp_path / "opt" / "qemu-system-x86_64"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.fixture
def project(suite: "Suite", binary: Path) -> "Suite":
    """An ini file with a destination, and a test that both sides are what the user said."""
    suite.pytester.makeini("[pytest]\nqemu_destination = debian:forky\n")
    suite.write(TEST.format(source=str(binary)))
    return suite


@pytest.mark.parametrize("blank", [False, True])
def test_the_ini_file_is_kept(project: "Suite", binary: Path, blank: bool) -> None:
    """With an equals sign; with a blank if a path of tests beside it leads to the ini file."""
    named = ["--qemu-source", str(binary), "test_it.py"]
    said = project.run(*(named if blank else [f"--qemu-source={binary}"]))
    assert said.ret == 0, said.stdout.str()


@pytest.mark.parametrize("option", ["--qemu-source", "--qemu-build", "--qemu-vm"])
@pytest.mark.parametrize("arguments", [(), ("-n1",), ("--qemu-matrix=smoke",)])
def test_a_blank_is_refused_with_the_remedy(
    project: "Suite", binary: Path, option: str, arguments: tuple[str, ...]
) -> None:
    result = project.pytester.runpytest_inprocess(option, str(binary), *arguments)
    words = f"pytest took '{binary}', the value of {option}, for a path of tests: its root"
    project.refused(result, words)
    (line,) = [line for line in result.errlines if line]
    assert f"and {project.path}/tox.ini is not read: write {option}={binary}" in line


def test_so_it_is_in_the_environment(
    project: "Suite", binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--qemu-source {binary}")
    project.refused(project.pytester.runpytest_inprocess(), "the value of --qemu-source, for a")


def test_a_path_that_changes_nothing_is_no_fault(project: "Suite") -> None:
    inside = project.path / "build" / "qemu-system-x86_64"
    inside.parent.mkdir()
    inside.touch()
    project.write(TEST.format(source="build/qemu-system-x86_64"))
    assert project.run("--qemu-source", "build/qemu-system-x86_64").ret == 0


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_tests_elsewhere_do_not_pass_without_the_ini_file_of_this_directory(
    project: "Suite", tmp_path: Path, workers: tuple[str, ...]
) -> None:
    elsewhere = tmp_path / "elsewhere" / "test_other.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text("def test_plain(): pass\n" + TEST.format(source=""))
    result = project.run(str(elsewhere), *workers)
    result.assert_outcomes(passed=1, failed=1)
    said = f"pytest reads no ini file, and not {project.path}/tox.ini, which has qemu_destination"
    assert said in result.stdout.str()
    refused = project.pytester.runpytest_inprocess(str(elsewhere), "--qemu-matrix=smoke")
    project.refused(refused, said)


def test_an_ini_file_of_its_own_below_is_a_choice(project: "Suite") -> None:
    below = project.path / "below"
    below.mkdir()
    (below / "pytest.ini").write_text("[pytest]\n")
    (below / "test_it.py").write_text(TEST.format(source="").replace("debian:forky", ""))
    assert project.run(str(below)).ret == 0


def test_no_page_writes_a_blank() -> None:
    root = Path(__file__).parents[2]
    flags = "build|source|destination|machine|vm|device|transport|capabilities|cell|known-issues"
    flags += "|accel|matrix|results|results-mode|args|source-args|destination-args|wrapper"
    value = r"(?:[A-Z]{2,}\b|[\w.-]+:|~|/|\.|\d|full\b|smoke\b|pairwise\b|q35\b|'|\")"
    wrong = re.compile(rf"--qemu-(?:{flags}) {value}")
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), root / "qmptests/plugin.py"]
    pages += [*(root / "qmptests/cli").glob("*.py"), *(root / "fixtures").glob("*.py")]
    found = [f"{page}: {m[0]}" for page in pages for m in wrong.finditer(page.read_text())]
    assert [line for line in found if "rootdir.py" not in line] == []
