"""`qmptests vfio trace`, on the evidence of a real migration."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from qmptests.builds import Build
from qmptests.cli.vfio import vfio
from qmptests.errors import InputError
from qmptests.fixtures.migrating import Migration
from qmptests.vm import devices

CHANGE = re.compile(
    r"(?:vfio_migration_set_state .*new state |vfio_migration_set_device_state .*state "
    r"|set-state state=)([\w-]+)"
)


def trace(*args: object) -> Result:
    return CliRunner().invoke(vfio, ["trace", *map(str, args)])


def test_a_migrations_calls_stand_between_the_events_that_qemu_tells_of(
    migration: Callable[..., Migration], destination_build: Build
) -> None:
    idle = (devices.load("idle"),)
    outcome = migration(source=destination_build, vm="none", devices=idle).run()
    assert outcome.completed, outcome
    result = trace(outcome.folder)
    assert result.exit_code == 0, result.output
    rows = [line.split(None, 3) for line in result.stdout.splitlines()]
    times = [float(row[0]) for row in rows]
    assert times[0] == 0
    assert times == sorted(times)
    # QEMU tells of each change of state before and after its call.
    changes = [
        (who, match[1].lower().replace("_", "-"))
        for _, side, who, what in rows
        if side == "source" and (match := CHANGE.match(what))
    ]
    for number, (who, state) in enumerate(changes):
        if who == "vf0":
            assert changes[number - 1] == changes[number + 1] == ("qemu", state)
    assert ("vf0", "stop-copy") in changes
    destination = trace(outcome.folder, "--side", "destination", "--device", "vf0", "--json")
    found = json.loads(destination.stdout)
    assert {(item["side"], item["device"]) for item in found} == {("destination", "vf0")}
    assert {"qemu", "vf0"} == {item["who"] for item in found}


def test_an_outcome_without_vfio_devices_is_one_clear_line(tmp_path: Path) -> None:
    error = trace(tmp_path).exception
    assert isinstance(error, InputError)
    assert "there were no emulated devices" in str(error)
