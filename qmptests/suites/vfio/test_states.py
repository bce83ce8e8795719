"""The states that a device goes through in a migration: as QEMU says, and as the device was told.

Source of the states: `vfio_device_mig_state` in Linux, include/uapi/linux/vfio.h.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase, WhenHeld
from qmptests.outcome import Result
from qmptests.suites.vfio import asked

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

START = ["running-p2p", "running"]
STOP = ["running-p2p", "stop"]
PRECOPY = ["pre-copy", "pre-copy-p2p", "stop-copy", "stop"]


def states(outcome: "Outcome", side: str, device: str = "vf0") -> list[str]:
    """What both logs have; they must agree."""
    told = asked.states(outcome, side, device)
    assert asked.traced_states(outcome, side, device) == told
    return told


@pytest.mark.parametrize(
    ("keys", "source", "destination"),
    [
        pytest.param({}, [*START, *PRECOPY], ["resuming", *START, *STOP], id="all"),
        pytest.param(
            {"p2p": False},
            ["pre-copy", "stop-copy", "stop"],
            ["resuming", "running", "stop"],
            id="no-p2p",
        ),
        pytest.param(
            {"precopy": False},
            [*START, *STOP, "stop-copy", "stop"],
            ["resuming", *START, *STOP],
            id="no-precopy",
        ),
        pytest.param(
            {"precopy": False, "p2p": False},
            ["stop", "stop-copy", "stop"],
            ["resuming", "running", "stop"],
            id="neither",
        ),
    ],
)
def test_the_states_of_both_sides(
    migration: "Migrate",
    vfio: "Vfio",
    keys: dict[str, Any],
    source: list[str],
    destination: list[str],
) -> None:
    """The optional ones are used by whoever has them. In the end the destination is told to quit.

    A device is in RUNNING at first, and not told so.
    """
    outcome = migration(vm="none", devices=[vfio.emulated(**keys)]).run()
    assert outcome.completed, outcome
    assert states(outcome, "source") == source
    assert states(outcome, "destination") == destination


def test_all_devices_are_quiet_before_the_first_is_stopped(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """PRE_COPY_P2P is for all of them, from the last to the first, then STOP_COPY.

    At the destination they start from the first to the last, RUNNING_P2P before RUNNING.
    """
    outcome = migration(vm="none", devices=[vfio.emulated()] * 3).run()
    assert outcome.completed, outcome

    def order(side: str, *names: str) -> list[tuple[str, str]]:
        found = asked.calls(outcome, side).calls("set-state")
        return [(c.with_["state"], c.device) for c in found if c.with_["state"] in names]

    devices = ["vf0", "vf1", "vf2"]
    stopped = [*product(["pre-copy-p2p"], devices[::-1]), *product(["stop-copy"], devices[::-1])]
    assert order("source", "pre-copy-p2p", "stop-copy") == stopped
    started = [*product(["running-p2p"], devices), *product(["running"], devices)]
    assert order("destination", *START)[:6] == started


class StopThenCont(Observer):
    """Pauses the source's guest before the migration, and has it go on."""

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Do it once the guest is there."""
        if phase is Phase.READY:
            await run.source.execute("stop")
            await run.source.execute("cont")


def test_a_pause_before_the_migration(migration: "Migrate", vfio: "Vfio") -> None:
    """`stop` is STOP for the device as well, and `cont` is RUNNING; then it migrates as always."""
    outcome = migration(vm="none", devices=[vfio.emulated()]).run(StopThenCont())
    assert outcome.completed, outcome
    assert states(outcome, "source") == [*START, *STOP, *START, *PRECOPY]


class WaitsForCont(Observer):
    """Has the guest go on at the destination, and looks at the device before that.

    `paused`: the guest is paused at the source before it migrates.
    """

    def __init__(self, *, paused: bool) -> None:
        self.paused = paused
        self.before_cont = ""

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Pause; look when the data is there, and continue."""
        if phase is Phase.READY and self.paused:
            await run.source.execute("stop")
        elif phase is Phase.ENDED:
            vm = run.destination
            done = {"status": "completed"}
            await vm.monitor.expect(
                "MIGRATION", lambda data: data == done, what="the guest to arrive", timeout=30
            )
            assert vm.emulation is not None
            status = await vm.emulation.request("status")
            self.before_cont = status["devices"][0]["state"]
            await vm.execute("cont")


def test_a_destination_that_is_not_to_run_yet(migration: "Migrate", vfio: "Vfio") -> None:
    """With -S its device stays in RESUMING, with all its data, until `cont`."""
    wanted = migration(vm="none", devices=[vfio.emulated("idle", initial="64K")])
    watcher = WaitsForCont(paused=False)
    outcome = replace(wanted, plan=replace(wanted.plan, destination_args=("-S",))).run(watcher)
    assert outcome.completed, outcome
    assert watcher.before_cont == "resuming"
    assert states(outcome, "destination") == ["resuming", *START, *STOP]


def test_a_guest_that_is_paused(migration: "Migrate", vfio: "Vfio") -> None:
    """It arrives paused; the device goes through STOP_COPY all the same."""
    watcher = WaitsForCont(paused=True)
    outcome = migration(vm="none", devices=[vfio.emulated("idle", initial="64K")]).run(watcher)
    assert outcome.completed, outcome
    assert watcher.before_cont == "resuming"
    assert states(outcome, "source") == [*START, *STOP, "stop-copy", "stop"]
    assert states(outcome, "destination") == ["resuming", *START, *STOP]


def test_a_guest_that_is_paused_during_precopy(migration: "Migrate", vfio: "Vfio") -> None:
    """The device stops in the midst of its initial data, which arrives all the same."""

    async def pause(run: "Run") -> None:
        await run.source.execute("stop")

    device = vfio.emulated("idle", initial="2M", when=["read+hold+side=source"])
    watcher = WaitsForCont(paused=False)
    outcome = migration(vm="none", devices=[device]).run(WhenHeld("source", pause), watcher)
    assert outcome.completed, outcome
    assert watcher.before_cont == "resuming"
    assert states(outcome, "source") == [*START, *PRECOPY]
    assert states(outcome, "destination") == ["resuming", *START, *STOP]


class PauseInPrecopy(Observer):
    """`stop` and `cont` while a slow migration is in precopy; then it may be fast."""

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Do it when QEMU says that precopy has begun."""
        if phase is Phase.ACTIVE:
            await run.source.execute("stop")
            await run.source.execute("cont")
            # What QEMU thinks is left never gets less, so it has to think that it can be sent.
            fast = dict.fromkeys(["max-bandwidth", "avail-switchover-bandwidth"], 1 << 30)
            await run.source.execute("migrate-set-parameters", fast)


def test_a_pause_during_precopy_costs_the_migration(migration: "Migrate", vfio: "Vfio") -> None:
    """The device is not put back into PRE_COPY, and QEMU still has the data descriptor of before.

    So it fails at switchover (docs/findings/vfio-pause-in-precopy.md); guest and device run on.
    """
    wanted = migration(
        vm="none",
        devices=[vfio.emulated("idle", initial="2M")],
        parameters={"max-bandwidth": 1 << 16},
        capabilities=["return-path"],
        expected=Result.FAILED_DESTINATION_EXITED,
        timeout_s=30.0,
    )
    outcome = wanted.run(PauseInPrecopy())
    assert outcome.as_expected, outcome
    assert any("data_fd out of sync" in line for line in outcome.source.record.stderr_tail)
    assert outcome.record.source_ran_on
    told = asked.states(outcome)
    assert told[:9] == [*START, *PRECOPY[:-1], *START, *STOP]
    assert told.count("pre-copy") == 1
    assert told[-4:] == [*START, *STOP], "it runs, until QEMU is told to quit"
