"""What pytest shows of a test of QEMU steers no terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

TESTS = r"""
import pytest
from qmptests.errors import InputError

ODD = "\x1b]0;x\x07\x9b2J\u202e\x7f"

def test_of_words_of_qemu(migration):
    outcome = migration(vm="none", destination_args=("-device", ODD)).run()
    raise AssertionError(outcome.destination.record.stderr_tail[0])

def test_of_an_outcome(migration):
    outcome = migration(vm="none", destination_args=("-device", ODD)).run()
    assert outcome.completed

def test_of_an_error():
    raise InputError(f"{ODD} is no name")

@pytest.fixture
def broken(migration):
    raise ValueError(ODD)

def test_of_a_fixture(broken):
    pass

@pytest.mark.qemu_needs(device=ODD)
def test_that_is_skipped(migration):
    pass

def test_that_skips(migration):
    pytest.skip(ODD)

@pytest.mark.xfail(reason=ODD)
def test_that_is_marked(migration):
    pytest.fail(ODD, pytrace=False)
"""


def test_no_word_of_qemu_or_of_a_build_does(suite: "Suite") -> None:
    suite.write(TESTS)
    builds = "--qemu-source=debian:trixie-backports"
    result = suite.run(builds, "-rA", "--showlocals", "--qemu-vm=none")
    result.assert_outcomes(failed=3, errors=1, skipped=2, xfailed=1)
    lines = [*result.outlines, *result.errlines]
    assert [line for line in lines if not line.isprintable()] == []
    assert sum(r"\x1b]0;x\x07\x9b2J\u202e\x7f" in line for line in lines) > 10
