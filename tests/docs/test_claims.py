"""The page of claims names each test of the suite, and none that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/switchover-ack.md"
SUITE = ROOT / "qmptests/suites/switchover_ack"
#: They hold for a list of messages, which the page tells of in words.
IN_WORDS = {"test_messages.py"}


def test_each_claim_has_its_test_and_each_test_its_claim() -> None:
    files = {file.name: file.read_text() for file in SUITE.glob("test_*.py")}
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    named -= {name.removesuffix(".py") for name in files}
    tests = {
        name: re.findall(r"^def (test_\w+)", text, re.MULTILINE) for name, text in files.items()
    }
    known = {test for found in tests.values() for test in found}
    assert named - known == set(), "the page names tests that are not there"
    wanted = {test for name, found in tests.items() if name not in IN_WORDS for test in found}
    assert wanted - named == set(), "the page leaves out tests"
