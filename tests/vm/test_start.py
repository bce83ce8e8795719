"""A VM that can't be started leaves nothing, and what is asked of it afterwards has answers."""

from pathlib import Path

import pytest

from qmptests import builds, eventloop, hosts
from qmptests.errors import EnvironmentFailure
from qmptests.vm import VM, load
from qmptests.vm.command import Options


@pytest.mark.parametrize("log", ["qmp.jsonl", "stderr.log"])
def test_a_log_that_can_not_be_written_stops_it_before_qemu_runs(tmp_path: Path, log: str) -> None:
    (tmp_path / f"source.{log}").mkdir()

    async def go() -> tuple[VM, BaseException | None]:
        definition = load("none")
        build = builds.resolve("debian:trixie")
        options = Options(machine=build.facts.resolve_machine("q35"))
        guest = definition.make_guest()
        vm = VM("source", hosts.local(), build, definition, options, guest, tmp_path)
        try:
            await vm.start()
        except EnvironmentFailure as error:
            return vm, error
        finally:
            await vm.stop()
        return vm, None

    vm, error = eventloop.run(go())
    assert error is not None
    assert f"source.{log}: Is a directory" in str(error)
    assert not vm.spawned
    assert vm.problems() == []
