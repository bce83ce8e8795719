"""What a build lacks is a skip that says so; a run in which nothing ran is not a success."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

NEEDS = """
import pytest

@pytest.mark.qemu_needs(%s)
def test_it(cell): pass
"""


@pytest.mark.parametrize(
    ("needs", "because"),
    [
        ('capability="levitate"', "the source 10.0 has no capability 'levitate'"),
        ('device=["virtio-rng-pci", "toaster"]', "the source 10.0 has no device 'toaster'"),
        ('machine="pc-q35-11.1"', "the source 10.0 has no machine 'pc-q35-11.1'"),
        ('trace_event="no_such"', "the source 10.0 has no trace event 'no_such'"),
        ('version=">=10.1"', "the source 10.0 is not of version >=10.1"),
        ('version="<11", side="destination"', "the destination 11.1 is not of version <11"),
        ('machine="pc-q35-11.1", side="destination"', ""),
        ('version=">=10.0", capability="multifd", device="virtio-rng-pci"', ""),
    ],
)
def test_what_a_build_lacks_is_a_named_skip(suite: "Suite", needs: str, because: str) -> None:
    suite.write(NEEDS % needs)
    result = suite.matrix_here("--qemu-cell=source=10.*")
    (item,) = suite.results.items
    assert (item.verdict, item.because) == ("skipped" if because else "passed", because)
    assert result.ret == (pytest.ExitCode.NO_TESTS_COLLECTED if because else 0)
    assert suite.results.exit == result.ret


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ('colour="red"', "qemu_needs takes capability, "),
        ('capability="multifd", side="left"', "side=source, destination, both"),
        ('"multifd"', "qemu_needs takes capability, "),
        ('version="10"', "version '10' is not such as '>=10.1' or '<11'"),
        ("", "qemu_needs takes capability, "),
    ],
)
def test_a_wrong_mark_is_an_error_of_the_test_in_one_line(
    suite: "Suite", needs: str, words: str
) -> None:
    suite.write(NEEDS % needs)
    result = suite.matrix_here("--qemu-cell=source=10.*")
    result.assert_outcomes(errors=1)
    (item,) = suite.results.items
    assert item.verdict == "error"
    assert words in item.because
    assert "Traceback" not in result.stdout.str()
    assert "needs.py" not in result.stdout.str()


@pytest.mark.parametrize("when", ["setup", "call"])
def test_nothing_ran(suite: "Suite", workers: tuple[str, ...], when: str) -> None:
    if when == "setup":
        suite.write(NEEDS % 'capability="levitate"')
    else:
        suite.write("import pytest\ndef test_it(cell): pytest.skip('not here')")
    result = suite.matrix(*workers)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    line = "finding: nothing ran: all 2 tests were skipped: "
    result.stdout.fnmatch_lines([f"{line}*"])
    assert suite.results.findings[0].startswith(line.removeprefix("finding: "))
    assert [item.verdict for item in suite.results.items] == ["skipped"] * 2


def test_a_test_that_is_to_fail_has_run(suite: "Suite") -> None:
    suite.write("import pytest\n@pytest.mark.xfail\ndef test_it(cell): assert not cell")
    result = suite.matrix_here("--qemu-cell=source=10.*")
    (item,) = suite.results.items
    assert (item.verdict, item.issue, result.ret) == ("expected", "", 0)
    assert "known issue" not in result.stdout.str().replace("(known issues)", "")


def test_a_test_that_is_to_fail_and_is_not_even_run_has_not(suite: "Suite") -> None:
    suite.write(
        "import pytest\n@pytest.mark.xfail(run=False, reason='crash')\ndef test_it(cell): 1"
    )
    result = suite.matrix_here("--qemu-cell=source=10.*")
    (item,) = suite.results.items
    assert (item.verdict, result.ret) == ("skipped", pytest.ExitCode.NO_TESTS_COLLECTED)


def test_no_test_at_all(suite: "Suite") -> None:
    suite.write("def test_it(cell): pass")
    result = suite.matrix("-k", "no_such")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert suite.results.findings == ["nothing ran: no test was selected"]
