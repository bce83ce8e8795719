"""`qmptests timeline`: text, JSON, choices, bad input."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from qmptests import downtime
from qmptests.builds import Build
from qmptests.cli.main import READER_GONE
from qmptests.cli.timeline import timeline
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.fixtures.migrating import Migration
from qmptests.vm import devices


def run(*args: object) -> Result:
    return CliRunner().invoke(timeline, [*map(str, args)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One side's trace log and call log, without an outcome.json."""
    (tmp_path / "source.trace.log").write_text(
        "7@1.000000:migrate_set_state new state active\n"
        "7@1.002500:vfio_migration_set_state  (VFIO_FD201) new state STOP, recover state ERROR\n"
    )
    (tmp_path / "source.vfio.jsonl").write_text(
        '{"format": 1, "devices": [{"name": "vf0"}]}\n'
        '{"at": 1001000, "device": "vf0", "call": "reset", "us": 7}\n'
    )
    return tmp_path


def test_a_line_for_each_moment(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0
    assert result.stdout == (
        "      0.000  source  trace    migrate_set_state new state active\n"
        "      1.000  source  vf0      reset (7 us)\n"
        "      2.500  source  trace    vfio_migration_set_state (VFIO_FD201) new state STOP, "
        "recover state ERROR\n"
    )
    assert "there is no log of the destination" in result.stderr
    assert "source.qmp.jsonl is not there" in result.stderr


def test_choices(folder: Path) -> None:
    assert run(folder, "--witness", "calls").stdout.count("\n") == 1
    assert run(folder, "--witness", "calls", "--witness", "trace").stdout.count("\n") == 3
    assert run(folder, "--device", "vf0").stdout.count("\n") == 2
    assert run(folder, "--side", "source").stdout.count("\n") == 3
    assert run(folder, "--device", "vf9").stdout == ""


def test_json_is_a_list_of_objects(folder: Path) -> None:
    items = json.loads(run(folder, "--json").stdout)
    assert [item["at_us"] for item in items] == [1_000_000, 1_001_000, 1_002_500]
    assert items[1] == {
        "at_us": 1_001_000,
        "side": "source",
        "witness": "calls",
        "name": "reset",
        "text": "(7 us)",
        "device": "vf0",
        "us": 7,
    }
    assert json.loads(run(folder, "--json", "--witness", "guest").stdout) == []


def test_what_cannot_be_shown_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "source.vfio.jsonl").write_text("nothing\n")
    for args, says in [
        ((tmp_path / "none",), "no outcome in"),
        ((empty,), "no outcome in"),
        ((broken,), "no log in .* can be read"),
        ((folder, "--side", "target"), "has no side 'target': there are source"),
        ((folder, "--device", "vf7"), "there is no device 'vf7': there are vf0"),
        ((folder, "--attempt", "2", "--downtime", "--side", "source"), "goes with --json only"),
        ((folder, "--perfetto", tmp_path / "x", "--json"), "leave --json out"),
        ((folder, "--perfetto", tmp_path / "no" / "x"), "cannot write .*: No such file"),
    ]:
        error = run(*args).exception
        with pytest.raises((InputError, EnvironmentFailure), match=says):
            raise error or AssertionError
        assert "\n" not in str(error)


def test_a_reader_that_goes_away_ends_it(folder: Path) -> None:
    text = "".join(f"7@2.{n:06}:migrate_set_state new state active\n" for n in range(100_000))
    (folder / "source.trace.log").write_text(text)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "qmptests.cli.main", "timeline", str(folder)]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert os.read(reader, 10)
        os.close(reader)
        _, said = process.communicate(timeout=60)
    assert process.returncode == READER_GONE
    assert b"Traceback" not in said


def test_a_real_migration_from_all_witnesses(
    migration: Callable[..., Migration], destination_build: Build
) -> None:
    outcome = migration(source=destination_build, devices=(devices.load("idle"),)).run()
    assert outcome.completed, outcome
    result = run(outcome.folder)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split(None, 3) for line in result.stdout.splitlines()]
    times = [float(row[0]) for row in rows]
    assert times == sorted(times)
    assert {"qmp", "trace", "guest", "vf0"} <= {row[2] for row in rows}
    assert {row[1] for row in rows} == {"source", "destination"}
    (began,) = (float(at) for at, side, _, what in rows if what.startswith("migrate uri=") and side)
    assert abs(began) < 1000, "zero is when `migrate` was sent"


def test_the_downtime_explained_as_text_and_as_json(
    migration: Callable[..., Migration], destination_build: Build
) -> None:
    outcome = migration(source=destination_build, devices=(devices.load("idle"),)).run()
    lines = run(outcome.folder, "--downtime").stdout.splitlines()
    assert lines[0].startswith("precopy ")
    assert any(line.startswith("critical     source      stop") for line in lines)
    assert max(map(len, lines)) <= 72, "it fits a mail"
    made = json.loads(run(outcome.folder, "--downtime", "--json").stdout)
    assert made == json.loads(msgspec.json.encode(downtime.analyse(outcome.folder)))
    path = made["downtime"]["path"]
    assert (path[0]["begin_us"], path[-1]["end_us"]) == (
        made["downtime"]["begin_us"],
        made["downtime"]["end_us"],
    )


def test_what_is_left_is_explained_without_an_outcome_of_ours(
    migration: Callable[..., Migration],
) -> None:
    """Of another schema version: one line says so, and all logs are read."""
    folder = migration().run().folder
    text = (folder / "outcome.json").read_text()
    (folder / "outcome.json").write_text(text.replace('"schema": 1', '"schema": 7'))
    result = run(folder, "--downtime")
    assert "has schema 7, this qmptests reads 1" in result.stderr
    assert " ms from VM stop to VM running" in result.stdout


def test_a_side_that_is_missing_leaves_the_other(migration: Callable[..., Migration]) -> None:
    folder = migration().run().folder
    for log in folder.glob("destination.*"):
        log.unlink()
    result = run(folder, "--downtime")
    assert result.exit_code == 0
    assert "there is no log of the destination: what happened there is missing" in result.stderr
    assert result.stdout.startswith("precopy ")
    assert "none: no log shows the guest run at the destination" in result.stdout


def test_a_file_for_perfetto(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    assert run(folder, "--perfetto", file).stdout == ""
    names = [event["name"] for event in json.loads(file.read_text())["traceEvents"]]
    assert "reset" in names
