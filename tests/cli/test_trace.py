"""`qmptests trace diff` compares files and folders, and its exit status is the answer."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from qmptests.cli.trace import trace
from qmptests.errors import InputError

LOGS = Path(__file__).parent.parent / "trace" / "logs"
OLD, NEW = LOGS / "10.0-to-11.1", LOGS / "11.1-to-11.1"


def diff(*args: object) -> Result:
    return CliRunner().invoke(trace, ["diff", *map(str, args)])


def test_equal_logs_exit_0() -> None:
    result = diff(OLD, LOGS / "10.0-to-11.1-untimed")
    assert result.exit_code == 0
    assert result.output == (
        "source: equal (A 27 lines, B 27 lines)\ndestination: equal (A 24 lines, B 24 lines)\n"
    )


def test_different_logs_exit_1_and_show_where() -> None:
    result = diff(OLD / "source.trace.log", NEW / "source.trace.log", "--context", 1)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "log: differs in 2 places (A 27 lines, B 28 lines); the first:",
        "      17  vmstate_downtime_save type=iterable idstr=ram instance_id=0 downtime=282",
        "A     18  vmstate_downtime_checkpoint src-iterable-saved",
        "B     18  vmstate_downtime_save type=iterable idstr=dirty-bitmap instance_id=0 downtime=0",
        "counts differ (A, B): vmstate_downtime_save (5, 6)",
    ]


def test_json_has_the_same_truth() -> None:
    result = diff(OLD, NEW, "--json")
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert found["source"]["equal"] is False
    assert found["destination"]["equal"] is False
    assert found["source"]["first"]["before"][-1]["line"] == 17


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(OLD / "source.trace.log", half)
    for a, b, text in [
        (OLD, tmp_path / "none", "does not exist"),
        (OLD, OLD / "source.trace.log", "a folder and a file"),
        (tmp_path / "empty", tmp_path / "empty", "no source.trace.log or destination.trace.log"),
        (OLD, half, "has a destination.trace.log, but"),
    ]:
        error = diff(a, b).exception
        assert isinstance(error, InputError)
        assert text in str(error)
        assert "\n" not in str(error)


def test_logs_without_a_line_are_not_equal(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for side in ("source", "destination"):
            (tmp_path / folder / f"{side}.trace.log").touch()
    error = diff(tmp_path / "a", tmp_path / "b").exception
    assert isinstance(error, InputError)
    assert "have no lines to compare; was tracing on" in str(error)
    for folder in ("a", "b"):
        shutil.copy(OLD / "source.trace.log", tmp_path / folder)
    result = diff(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0
    assert "destination: nothing to compare (A 0 lines, B 0 lines)" in result.output


def test_unknown_options_exit_2() -> None:
    assert diff(OLD, NEW, "--context", 0).exit_code == 2
    assert diff(OLD).exit_code == 2


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_folder_with_one_side_is_compared_in_that(tmp_path: Path, side: str) -> None:
    shutil.copy(OLD / f"{side}.trace.log", tmp_path)
    assert diff(tmp_path, tmp_path).output.startswith(f"{side}: equal")
