"""Who starts the command may have closed its standard streams: it does its work all the same."""

from collections.abc import Callable
from typing import Any

import pytest

from qmptests.outcome import Result, folder


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(migrate: Callable[..., Any], closed: str) -> None:
    command = migrate("--json", "copy.json", wrapper=("sh", "-c", f'exec "$@" {closed}', "sh"))
    ended = command.finish()
    assert (ended.status, ended.err) == (0, "")
    assert ("result       completed" in ended.out) is ("1>&-" not in closed)
    assert folder.load(command.folder / "out").result is Result.COMPLETED
    copy = (command.folder / "copy.json").read_bytes()
    assert copy == (command.folder / "out" / "outcome.json").read_bytes()


def test_what_is_said_does_not_land_in_a_file(migrate: Callable[..., Any]) -> None:
    """The first file that is opened would be descriptor 2."""
    arguments = ("--parameter", "downtime-limit=soon", "--vm", "none")
    command = migrate(*arguments, wrapper=("sh", "-c", 'exec "$@" 2>&-', "sh"))
    assert command.finish().status == 2
    for path in (command.folder / "out").iterdir():
        assert b"qmptests: error" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "full", "status"),
    [
        (("migrate", "--source", "none-such"), "2>/dev/full", 2),
        (("--help",), ">/dev/full 2>&1", 3),
    ],
)
def test_a_standard_error_that_can_not_be_written_changes_no_exit_status(
    start: Callable[..., Any], arguments: tuple[str, ...], full: str, status: int
) -> None:
    ended = start(*arguments, wrapper=("sh", "-c", f'exec "$@" {full}', "sh")).finish()
    assert (ended.status, ended.out, ended.err) == (status, "", "")
