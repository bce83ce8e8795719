"""A failure that is known is expected; the ledger itself is checked against what ran."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

#: 10.0.13 sends a queue size for a queue that was never set up, and 11.1.3 checks it.
FAILING = (
    "--qemu-device=virtio-net",
    "--qemu-capabilities=return-path",
    "--qemu-known-issues=known.toml",
)
VRING = {
    "name": "virtio-vring-num",
    "reference": "docs/findings/virtio-vring-num.md",
    "expires": "2999-01-01",
    "result": "failed-destination-exited",
    "side": "destination",
    "stage": "active",
    "text": r"VQ \d+ vring\.num \d+ exceeds allocated max",
    "cells": "source=10.0.13,destination=11.1*,device=virtio*",
}


def know(suite: "Suite", *issues: dict[str, str]) -> None:
    """Write `known.toml`."""
    text = ""
    for issue in issues:
        keys = {**VRING, **issue}
        date = keys.pop("expires")
        lines = [f"{key} = '{value}'" for key, value in keys.items()]
        text += "\n".join(["[[issue]]", f"expires = {date}", *lines, ""])
    (suite.path / "known.toml").write_text(text)


def test_a_known_failure_is_expected(suite: "Suite", workers: tuple[str, ...]) -> None:
    know(suite, VRING)
    suite.migrating()
    result = suite.matrix(*workers, *FAILING, "-rx")
    assert result.ret == 0
    result.assert_outcomes(passed=1, xfailed=1)
    there, back = sorted(suite.items)
    item = suite.items[there]
    assert (item.verdict, item.issue) == ("expected", "virtio-vring-num")
    assert item.result == "failed-destination-exited"
    assert "exceeds allocated max" in item.because
    assert suite.outcome(there)["result"] == "failed-destination-exited"
    assert suite.items[back].verdict == "passed"
    result.stdout.fnmatch_lines(
        [
            "1 expected*virtio-vring-num (docs/findings/virtio-vring-num.md)",
            "XFAIL * known issue virtio-vring-num: docs/findings/virtio-vring-num.md",
        ]
    )


@pytest.mark.parametrize(
    "test",
    [
        "assert migration(destination_machine='pc-q35-9.2').run().completed",
        "assert not migration().run().completed; assert migration(device=[]).run()",
        "migration().run(); assert migration(destination_machine='pc-q35-9.2').run().completed",
        "migration(devices=()).run(); assert 'exceeds allocated max' == ''",
    ],
    ids=["another-failure", "an-error-of-the-test", "one-of-two", "the-migration-completed"],
)
def test_any_other_failure_of_the_same_cell_fails(suite: "Suite", test: str) -> None:
    know(suite, VRING)
    suite.write(f"def test_it(cell, migration): {test}")
    result = suite.matrix(*FAILING, "--qemu-cell=source=10.*")
    result.assert_outcomes(failed=1)
    (item,) = suite.results.items
    assert (item.verdict, item.issue) == ("failed", "")
    assert result.ret == suite.results.exit == 1


def test_entries_that_no_longer_hold_fail_the_run(suite: "Suite", workers: tuple[str, ...]) -> None:
    know(
        suite,
        VRING,
        {"name": "old", "expires": "2020-01-01"},
        {"name": "nobody", "cells": "source=10.0.13,device=toaster"},
        {"name": "gone", "cells": "source=11.1.3"},
    )
    suite.migrating()
    result = suite.matrix(*workers, *FAILING)
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == suite.results.exit == 1
    old, nobody, gone = suite.results.findings
    assert old.startswith("known.toml: issue 'old' expired on 2020-01-01: look at docs/findings/")
    assert nobody.startswith("known.toml: issue 'nobody' is of no cell of this matrix")
    assert gone.startswith("known.toml: issue 'gone': s11.1.3-d10.0.13-")
    said = result.stdout.str()
    assert [said.count(f"finding: known.toml: issue '{name}'") for name in ("old", "gone")] == [
        1,
        1,
    ]


def test_an_expired_entry_explains_nothing(suite: "Suite") -> None:
    know(suite, {"expires": "2020-01-01"})
    suite.migrating()
    suite.matrix(*FAILING, "--qemu-cell=source=10.*").assert_outcomes(failed=1)
