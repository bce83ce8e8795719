"""The examples of the documentation do what the text says."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qmptests.fixtures.migrating import Migration
from qmptests.vm import parse

if TYPE_CHECKING:
    from qmptests.builds import Build

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """A page's code blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL
    )


def test_the_tests_of_the_tutorial_and_the_pytest_page_pass(
    tmp_path: Path, source_build: "Build", destination_build: "Build"
) -> None:
    pages = {"mine": "tutorial/first-migration.md", "reference": "reference/pytest.md"}
    for name, page in pages.items():
        (tmp_path / f"test_{name}.py").write_text("\n\n".join(blocks(page, "python")))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--qemu-source", source_build.spec, "--qemu-destination", destination_build.spec),
            *("--basetemp", str(tmp_path / "temporary"), str(tmp_path)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_example_of_the_python_api_runs(tmp_path: Path) -> None:
    example = blocks("reference/api.md", "python")[0]
    assert "migrate(" in example
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"<Outcome completed; evidence in .*> \d+ ms\n", done.stdout)


def test_the_vm_of_the_how_to_migrates(migration: Callable[..., Migration]) -> None:
    (example,) = blocks("how-to/add-a-vm.md", "toml")
    outcome = migration(vm=parse(example, "add-a-vm.md", "disk")).run()
    assert outcome.completed, outcome
