"""A real QEMU under its supervisor, steered from the owner's side."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests import builds, eventloop, hosts
from qmptests.errors import EnvironmentFailure, TestedFailure
from qmptests.hosts import ProcessDied
from qmptests.vfio.emulation import Emulation, SupervisorDied
from qmptests.vfio.spec import Rule
from qmptests.vm import VM, devices, load
from qmptests.vm.command import Options

Act = Callable[[VM, Emulation], Awaitable[Any]]


@pytest.fixture(params=["debian:trixie", "debian:trixie-backports"])
def with_vm(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., VM]:
    """Runs `act` beside a VM with emulated devices, and stops the VM whatever comes of it."""

    def run(act: Act, *profiles: str, wrapper: tuple[str, ...] = (), log: str = "") -> VM:
        async def go() -> VM:
            definition = load("none")
            build = builds.resolve(request.param)
            options = Options(
                machine=build.facts.resolve_machine("q35"),
                devices=tuple(devices.load(profile) for profile in profiles or ["idle"]),
            )
            guest = definition.make_guest()
            vm = VM("source", hosts.local(), build, definition, options, guest, tmp_path, wrapper)
            if log:
                (tmp_path / f"source.{log}").mkdir()
            assert vm.emulation is not None
            try:
                await vm.start()
                await act(vm, vm.emulation)
            finally:
                await vm.stop()
            return vm

        return eventloop.run(go())

    return run


Run = Callable[..., VM]


async def _nothing(vm: VM, emulation: Emulation) -> None:
    pass


def test_it_reports_when_qemu_has_ended(with_vm: Run) -> None:
    vm = with_vm(_nothing, "idle", "busy")
    emulation = vm.emulation
    assert emulation is not None
    assert emulation.problems == []
    assert list(emulation.report) == ["vf0", "vf1"]
    device = emulation.report["vf1"]
    assert (device["profile"], device["state"], device["arrival"]) == ("busy", "stop", None)
    assert device["calls"]["bind"] == 1
    assert vm.process.status is not None
    assert vm.process.status.returncode == 0
    assert vm.process.status.max_rss_kib > 10_000
    assert 0 < emulation.cpu_s < 10


def test_both_processes_are_gone_afterwards(with_vm: Run) -> None:
    vm = with_vm(_nothing)
    assert vm.emulation is not None
    for pid in (vm.process.pid, vm.emulation.supervisor.pid):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_call_is_held_until_it_is_released(with_vm: Run) -> None:
    async def act(vm: VM, emulation: Emulation) -> None:
        mark = emulation.events.mark
        await emulation.add_rule("vf0", Rule("reset", "hold"))
        reset = asyncio.ensure_future(vm.execute("system_reset"))
        held = await emulation.expect("held", what="the reset to be held", since=mark)
        assert held.data == {"device": "vf0", "call": "reset", "detail": {}}
        (status,) = (await emulation.request("status"))["devices"]
        assert status["held"] == [{"call": "reset"}]
        assert not reset.done()
        assert await emulation.request("release", "vf0") == {"released": 1}
        await reset
        assert await emulation.request("release", "vf0") == {"released": 0}
        (status,) = (await emulation.request("status"))["devices"]
        assert status["held"] == []
        assert await vm.runstate() == "running"

    vm = with_vm(act)
    assert vm.emulation is not None
    assert vm.emulation.report["vf0"]["fired"] == ["hold at reset"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"do": "status", "device": ""}, None),
        ({"do": "reinit", "device": "vf7", "value": 4096}, "there is no device 'vf7': vf0"),
        ({"do": "levitate", "device": "vf0"}, "a device can't 'levitate': it can announce, "),
        ({"do": "rule", "device": "vf0", "rule": {"on": "read"}}, "'do' is no text"),
        ({"do": "interrupt", "device": "vf0", "value": 77}, "QEMU has not set up INTX 77: it has"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_line(
    with_vm: Run, request_: dict[str, Any], said: str | None
) -> None:
    async def act(_: VM, emulation: Emulation) -> None:
        if said is None:
            await emulation.request(**request_)
        else:
            with pytest.raises(TestedFailure, match=f"the devices of source: .*{said}"):
                await emulation.request(**request_)
        await emulation.request("status")

    with_vm(act)


def test_a_supervisor_that_dies_is_said_to_have_died_first(with_vm: Run) -> None:
    async def act(vm: VM, emulation: Emulation) -> None:
        emulation.supervisor.signal(signal.SIGKILL)
        with pytest.raises(ProcessDied, match=r"source was killed by SIG(KILL|ABRT) while"):
            await emulation.expect("held", what="what never comes")
        with pytest.raises((SupervisorDied, ProcessDied)):
            await emulation.request("status")

    vm = with_vm(act)
    assert vm.emulation is not None
    said = ["the supervisor of source died first: it was killed by SIGKILL"]
    assert vm.emulation.problems == said
    assert vm.emulation.report == {}


def test_a_qemu_that_dies_is_not_the_supervisors_fault(with_vm: Run) -> None:
    async def act(vm: VM, emulation: Emulation) -> None:
        await vm.kill()
        await emulation.finish()
        assert emulation.report["vf0"]["state"] == "running"

    vm = with_vm(act)
    assert vm.emulation is not None
    assert vm.emulation.problems == []
    assert vm.process.status is not None
    assert vm.process.status.returncode == -signal.SIGKILL


def test_a_qemu_that_refuses_its_command_line_says_why(with_vm: Run) -> None:
    with pytest.raises(ProcessDied, match=r"source exited with status 1 .*Property.*wings"):
        with_vm(_nothing, "idle,device_options=wings=2")


def test_an_end_that_is_heard_together_with_the_start_is_not_lost(
    with_vm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine so busy that the command has ended before anybody looks."""
    hear = Emulation._on_readable

    def late(self: Emulation) -> None:
        time.sleep(0.2)
        hear(self)

    monkeypatch.setattr(Emulation, "_on_readable", late)
    with pytest.raises(ProcessDied, match="source exited with status 0"):
        with_vm(_nothing, wrapper=("true",))


def test_a_wrapper_that_is_killed_is_no_fault_of_the_emulation(with_vm: Run) -> None:
    """All that the wrapper has started is killed with it; its supervisor is not, and reports."""

    async def act(vm: VM, _: Emulation) -> None:
        await vm.kill()

    vm = with_vm(act, wrapper=("sh", "-c", '"$@"; exit $?', "sh"))
    assert vm.emulation is not None
    assert vm.emulation.problems == []
    assert list(vm.emulation.report) == ["vf0"]


def test_a_wrapper_comes_between_the_supervisor_and_qemu(with_vm: Run) -> None:
    async def act(vm: VM, emulation: Emulation) -> None:
        await emulation.request("status")
        assert vm.process.pid != emulation.supervisor.pid

    vm = with_vm(act, wrapper=("sh", "-c", '"$@"; exit $?', "sh"))
    assert vm.emulation is not None
    assert vm.emulation.report["vf0"]["calls"]["bind"] == 1


def test_a_command_that_is_not_there_is_named(with_vm: Run) -> None:
    with pytest.raises(EnvironmentFailure, match=r"cannot start source: .*/nowhere/gdb: No such"):
        with_vm(_nothing, wrapper=("/nowhere/gdb",))


def test_a_call_log_that_cannot_be_written_is_said(with_vm: Run) -> None:
    with pytest.raises(EnvironmentFailure, match=r"cannot start source: .*vfio\.jsonl.*directory"):
        with_vm(_nothing, log="vfio.jsonl")
