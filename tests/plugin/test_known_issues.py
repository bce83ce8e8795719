"""A failure that is known is expected; the ledger itself is checked against what ran."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

KNOWN = ("--qemu-capabilities=return-path", "--qemu-known-issues=known.toml")
#: In one direction the destination has another machine type: the failure that is known.
FAILS = "migration(destination_machine=other(cell))"
OTHER = "def other(cell): return 'pc-q35-9.2' if cell.coordinates['source'] == '10.0' else ''\n"
ISSUE = {
    "name": "other-machine",
    "reference": "docs/findings/refusals.md",
    "expires": "2999-01-01",
    "result": "failed-destination-exited",
    "side": "destination",
    "stage": "active",
    "text": r"Machine type received is '[\w.-]+' and local is 'pc-q35-9\.2'",
    "cells": "source=10.0,destination=11*,capabilities=return-path",
}


def know(suite: "Suite", *issues: dict[str, str]) -> None:
    """Write `known.toml`."""
    text = ""
    for issue in issues:
        keys = {**ISSUE, **issue}
        date = keys.pop("expires")
        lines = [f"{key} = '''{value}'''" for key, value in keys.items()]
        text += "\n".join(["[[issue]]", f"expires = {date}", *lines, ""])
    (suite.path / "known.toml").write_text(text)


def migrating(suite: "Suite") -> None:
    """A test that fails in one direction, and passes in the other."""
    suite.write(f"{OTHER}def test_it(cell, migration): assert {FAILS}.run().completed")


def test_a_known_failure_is_expected(suite: "Suite", workers: tuple[str, ...]) -> None:
    know(suite, ISSUE)
    migrating(suite)
    result = suite.matrix(*workers, *KNOWN, "-rx")
    assert result.ret == 0
    result.assert_outcomes(passed=1, xfailed=1)
    there, back = sorted(suite.items)
    item = suite.items[there]
    assert (item.verdict, item.issue) == ("expected", "other-machine")
    assert item.result == "failed-destination-exited"
    assert "local is 'pc-q35-9.2'" in item.because
    assert suite.outcome(there)["result"] == "failed-destination-exited"
    assert suite.items[back].verdict == "passed"
    result.stdout.fnmatch_lines(
        [
            "1 expected*other-machine (docs/findings/refusals.md)",
            "XFAIL * known issue other-machine: docs/findings/refusals.md",
        ]
    )


@pytest.mark.parametrize(
    "test",
    [
        "assert migration(destination_machine='pc-q35-9.1').run().completed",
        f"assert not {FAILS}.run().completed; assert migration(device=[]).run()",
        f"{FAILS}.run(); assert migration(destination_machine='pc-q35-9.1').run().completed",
        "migration().run(); assert \"local is 'pc-q35-9.2'\" == ''",
    ],
    ids=["another-failure", "an-error-of-the-test", "one-of-two", "the-migration-completed"],
)
def test_any_other_failure_of_the_same_cell_fails(suite: "Suite", test: str) -> None:
    know(suite, ISSUE)
    suite.write(f"{OTHER}def test_it(cell, migration): {test}")
    result = suite.matrix(*KNOWN, "--qemu-cell=source=10.*")
    result.assert_outcomes(failed=1)
    (item,) = suite.results.items
    assert (item.verdict, item.issue) == ("failed", "")
    assert result.ret == suite.results.exit == 1


def test_entries_that_no_longer_hold_fail_the_run(suite: "Suite", workers: tuple[str, ...]) -> None:
    know(
        suite,
        ISSUE,
        {"name": "old", "expires": "2020-01-01"},
        {"name": "nobody", "cells": "source=10.0,device=toaster"},
        {"name": "gone", "cells": "source=11.1"},
    )
    migrating(suite)
    result = suite.matrix(*workers, *KNOWN)
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == suite.results.exit == 1
    old, nobody, gone = suite.results.findings
    assert old.startswith("known.toml: issue 'old' expired on 2020-01-01: look at docs/findings/")
    assert nobody.startswith("known.toml: issue 'nobody' is of no cell of this matrix")
    assert gone.startswith("known.toml: issue 'gone': s11.1-d10.0-")
    said = result.stdout.str()
    assert [said.count(f"finding: known.toml: issue '{name}'") for name in ("old", "gone")] == [
        1,
        1,
    ]


def test_an_expired_entry_explains_nothing(suite: "Suite") -> None:
    know(suite, {"expires": "2020-01-01"})
    migrating(suite)
    suite.matrix(*KNOWN, "--qemu-cell=source=10.*").assert_outcomes(failed=1)
