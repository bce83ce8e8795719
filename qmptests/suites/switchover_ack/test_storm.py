"""Devices that ask for an ack again and again: each time they are asked how much they have left.

While an ack is missing QEMU asks for sizes in each turn of its loop, and each REINIT after the data
of the last have gone out makes for one more ack. There is no limit to that, and `query-migrate`
doesn't say why nothing happens.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import Observer, Phase
from qmptests.outcome import Result
from qmptests.suites.switchover_ack import machines, observed, pending
from qmptests.suites.switchover_ack.counted import CAPABILITIES, assert_acked
from qmptests.suites.switchover_ack.reinit import TIMEOUT_S, ReinitAfterAck, assert_reinits
from qmptests.suites.vfio.attempts import SecondAttempt, running

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

ENDLESS = "precopy-info+reinit=64K+times=0"
SIZES = {"initial": "1M", "stop_copy": "64K"}
#: Acks after which it is a storm.
MANY = 20


def plan(machine: str, **more: Any) -> dict[str, Any]:
    """A migration of a guest that counts, with acks."""
    wanted: dict[str, Any] = {"machine": machine, "capabilities": CAPABILITIES, "timeout_s": 20.0}
    return wanted | more


class InTheStorm(Observer):
    """In the first attempt: wait for many acks, look what QEMU says of it, and act."""

    def __init__(self, act: "Callable[[Run], Any]") -> None:
        self.act = act
        #: What query-migrate said between two acks, and the passes before and after.
        self.info: dict[str, Any] = {}
        self.passes: list[int] = []

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Once it is one."""
        if phase is not Phase.ACTIVE or run.attempts:
            return
        source = run.source
        self.passes.append(max(pending.announced(source), default=0))
        await source.trace.wait_for_count(
            observed.ACKED, MANY, timeout=TIMEOUT_S, what=f"{MANY} acks"
        )
        self.info = await source.execute("query-migrate")
        self.passes.append(max(pending.announced(source), default=0))
        await self.act(run)


async def cancel(run: "Run") -> None:
    """`migrate_cancel`."""
    await run.source.execute("migrate_cancel")


async def calm(run: "Run", device: str = "vf0") -> None:
    """Take the device's rule back: it asks no more."""
    assert run.source.emulation is not None
    await run.source.emulation.request("unrule", device, number=1)


def assert_nothing_tells_why(storm: InTheStorm) -> None:
    """The status is `active`, passes rise, and no word is of acks or of the device."""
    assert storm.info["status"] == "active"
    assert storm.passes[1] > storm.passes[0]
    text = str(storm.info)
    for word in ("ack", "vf0", "reinit", "switchover"):
        assert word not in text.lower(), text


def test_a_device_that_never_stops_asking_is_never_switched_over(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Until someone cancels. Then the source runs on, and a second migration ends."""

    async def cancel_and_calm(run: "Run") -> None:
        await cancel(run)
        await calm(run)

    device = vfio.emulated("idle", **SIZES, when=[ENDLESS])
    storm, second = InTheStorm(cancel_and_calm), SecondAttempt()
    wanted = plan(machines.new(same_build), devices=[device], retries=1)
    outcome = migration(**wanted).run(storm, second)
    assert outcome.completed, outcome
    assert second.count == 1
    assert outcome.record.attempts[0].status == "cancelled"
    assert_nothing_tells_why(storm)
    assert sum(call.times for call in observed.reinits(outcome)) >= MANY - 1


def test_it_goes_on_until_the_device_stops_asking(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Each REINIT has its ack, and the last ack lets go."""
    device = vfio.emulated("idle", **SIZES, when=[ENDLESS])
    storm = InTheStorm(calm)
    outcome = migration(**plan(machines.new(same_build), devices=[device])).run(storm)
    assert outcome.completed, outcome
    assert_nothing_tells_why(storm)
    again = outcome.source.trace.count(observed.ASKED_AGAIN)
    assert again >= MANY - 1
    assert assert_acked(outcome, 1, reinits=again) == observed.NEW
    assert outcome.destination.record.devices[0].arrival
    assert outcome.destination.record.devices[0].arrival.problem == ""


def test_left_alone_it_is_cancelled_by_the_deadline_of_the_test(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """The device is back in RUNNING then, and the story says how often it asked."""

    class Ended(Observer):
        async def reached(self, phase: Phase, run: "Run") -> None:
            if phase is Phase.ENDED:
                assert run.source.emulation is not None
                await running(run.source.emulation)

    device = vfio.emulated("idle", **SIZES, when=[ENDLESS])
    wanted = plan(machines.new(same_build), devices=[device])
    wanted |= {"timeout_s": 1.5, "expected": Result.TIMED_OUT}
    outcome = migration(**wanted).run(Ended())
    assert outcome.as_expected, outcome
    assert outcome.record.source_ran_on
    (told,) = observed.story(outcome).devices
    assert told.reinit_count >= MANY
    assert observed.arrived(outcome) >= MANY


def test_one_of_so_many_ends_by_itself(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Each asks for its ack, but one that is there before the initial data have gone out."""
    device = vfio.emulated("idle", **SIZES, when=[f"precopy-info+reinit=64K+nth=2+times={MANY}"])
    wanted = plan(machines.new(same_build), vm="none", devices=[device])
    outcome = migration(**wanted).run()
    assert outcome.completed, outcome
    assert sum(call.times for call in observed.reinits(outcome)) == MANY
    again = outcome.source.trace.count(observed.ASKED_AGAIN)
    assert MANY - 1 <= again <= MANY
    assert assert_acked(outcome, 1, reinits=again) == observed.NEW


def test_as_long_as_one_of_several_asks_nothing_is_switched_over(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """All ask without end. They stop one by one, and each time the rest keep it waiting."""

    async def calm_one_by_one(run: "Run") -> None:
        trace = run.source.trace
        for name in names[:-1]:
            await calm(run, name)
            last = trace.log.last(observed.ACKED)
            for _ in range(MANY):
                last = await trace.wait_for(observed.ACKED, after=last, timeout=TIMEOUT_S)
            assert not trace.log.count(observed.DECIDED), f"it was {name} that it waited for"
        await calm(run, names[-1])

    names = ["vf0", "vf1", "vf2", "vf3"]
    devices = [vfio.emulated("idle", initial="64K", stop_copy="64K", when=[ENDLESS])] * 4
    storm = InTheStorm(calm_one_by_one)
    wanted = plan(machines.new(same_build), vm="none", devices=devices)
    outcome = migration(**wanted).run(storm)
    assert outcome.completed, outcome
    asked = [event.label for event in outcome.source.trace.events(observed.ASKED_AGAIN)]
    assert assert_acked(outcome, 4, reinits=len(asked)) == observed.NEW
    assert set(asked) == set(names)
    assert set(asked[-MANY // 2 :]) == {"vf3"}


@pytest.mark.parametrize("in_turn", [True, False], ids=["in-turn", "at-once"])
def test_a_storm_of_several_devices_ends_with_the_last(
    migration: "Migrate", vfio: "Vfio", same_build: "Build", in_turn: bool
) -> None:
    names = ["vf0", "vf1", "vf2", "vf3"] * 4
    devices = [vfio.emulated("idle", initial="64K", stop_copy="64K")] * 4
    reinit = ReinitAfterAck(*names, sizes=[64 << 10] * len(names), in_turn=in_turn)
    wanted = plan(machines.new(same_build), vm="none", devices=devices)
    outcome = migration(**wanted).run(reinit)
    assert outcome.completed, outcome
    again = outcome.source.trace.count(observed.ASKED_AGAIN)
    assert assert_acked(outcome, 4, reinits=again) == observed.NEW
    assert_reinits(outcome, reinit)
    # At once, some find initial data of the one before unread, and need no ack of their own.
    assert again == len(names) if in_turn else 4 <= again <= len(names)


def test_with_the_legacy_mechanism_it_is_harmless(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Nobody listens: there is one ack, and switchover with what is left then."""
    device = vfio.emulated("idle", **SIZES, when=[ENDLESS])
    machine = machines.legacy(same_build)
    outcome = migration(**plan(machine, vm="none", devices=[device])).run()
    assert outcome.completed, outcome
    assert assert_acked(outcome, 1) == observed.LEGACY
