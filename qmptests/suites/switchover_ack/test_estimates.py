"""What QEMU reckons with while it waits for acks: a threshold, a bandwidth, and what is left."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import WhenHeld
from qmptests.suites.switchover_ack import observed, pending
from qmptests.suites.switchover_ack.pending import WhileActive
from qmptests.suites.vfio import asked

if TYPE_CHECKING:
    from qmptests.builds import Build
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio
    from qmptests.migration import Run
    from qmptests.outcome import Outcome

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("same_build"),
    pytest.mark.qemu_needs(capability="switchover-ack"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]

MIB = 1 << 20
#: Bytes a second, milliseconds, and what they allow.
BANDWIDTH, LIMIT = 10**9, 300
ALLOWED = BANDWIDTH * LIMIT // 1000
#: More passes than any migration here would need.
MANY = 1000
DEADLINE_S = 20


def waiting(
    migration: "Migrate",
    vfio: "Vfio",
    stop_copy: int = 64 << 10,
    *,
    hold: bool = True,
    **plan: Any,
) -> "Migration":
    """The destination takes a device's initial bytes when it is told to: until then no ack comes.

    By TCP, which takes what a source sends meanwhile; a Unix socket is full after a few passes.
    """
    rules = ["write+hold+side=destination"] if hold else []
    device = vfio.emulated("idle", initial="64K", stop_copy=stop_copy, when=rules)
    acks = ["return-path", "switchover-ack"]
    ordinary = {"capabilities": acks, "transport": "tcp", "timeout_s": 20.0}
    return migration(vm="none", **{"devices": [device], **ordinary, **plan})


def undecided(run: "Run") -> None:
    """Nobody has acknowledged, and the source has not decided."""
    log = run.source.trace.log
    assert (log.count(observed.ACKED), log.count(observed.DECIDED)) == (0, 0)


def test_while_it_waits_each_loop_asks_for_exact_sizes(migration: "Migrate", vfio: "Vfio") -> None:
    """All that it needs has been sent, so it asks again and again: thousands of passes a second.

    Each counts, is announced, and syncs memory and devices. 10.0 does so too, once it has a
    threshold.
    """
    counts: list[int] = []

    async def watch(run: "Run") -> None:
        for _ in range(2):
            counts.append(await pending.passes(run.source, MANY))
        info = await run.source.execute("query-migrate")
        counts.append(info["ram"]["dirty-sync-count"])
        undecided(run)

    held = WhenHeld("destination", watch)
    outcome = waiting(migration, vfio).run(held)
    assert outcome.completed, outcome
    assert held.count == 1
    assert counts[-1] >= counts[-2] >= counts[0] + MANY
    for call in ("data-size", "precopy-info", "dma-report"):
        assert sum(c.times for c in asked.calls(outcome).calls(call, "vf0")) >= 2 * MANY
    events = [e for e in outcome.source.record.events if e.name == pending.ANNOUNCED]
    assert sum(event.count for event in events) >= 2 * MANY


#: What a device has for stop-copy. As memory is sent there is bandwidth enough for it.
SIZE = 2 * MIB
MEASURED = {"downtime-limit": LIMIT}


def test_waiting_for_an_ack_may_cost_the_bandwidth_to_switch_over(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """An idle guest leaves nothing to measure but the loop's own headers.

    That is too little for 2 MiB of stop-copy: with the ack it goes on as before, until somebody
    tells it what the network can do. See docs/findings/busy-loop-while-waiting.md.
    """
    allowed: list[int] = []

    async def collapse(run: "Run") -> None:
        await run.source.trace.wait_for(
            pending.THRESHOLD, max_size=lambda found: found < SIZE // 2, timeout=DEADLINE_S
        )
        undecided(run)

    async def acked(run: "Run") -> None:
        source = run.source
        event = await source.trace.wait_for(observed.ACKED, timeout=DEADLINE_S)
        for _ in range(3):
            event = await source.trace.wait_for(pending.THRESHOLD, after=event, timeout=DEADLINE_S)
            allowed.append(int(event.args["max_size"]))
            await pending.passes(source, 20)
        assert source.trace.log.count(observed.DECIDED) == 0
        told = {"avail-switchover-bandwidth": BANDWIDTH}
        await source.execute("migrate-set-parameters", told)

    held = WhenHeld("destination", collapse)
    outcome = waiting(migration, vfio, SIZE, parameters=MEASURED).run(held, WhileActive(acked))
    assert outcome.completed, outcome
    assert held.count == 1
    assert len(allowed) == 3
    assert max(allowed) < SIZE


def test_without_the_wait_the_bandwidth_is_enough(migration: "Migrate", vfio: "Vfio") -> None:
    """It was measured while memory was sent."""
    outcome = waiting(migration, vfio, SIZE, hold=False, parameters=MEASURED).run()
    assert outcome.completed, outcome


def test_a_read_that_finds_nothing_ends_the_initial_data(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """QEMU says that all of it was sent, and has its ack, with none of it read.

    The device goes on to say that it has initial bytes, which are not waited for any more.
    """
    dry = "read+errno=ENOMSG+times=0+in=pre-copy"
    device = vfio.emulated("idle", initial="64K", stop_copy="64K", when=[dry])
    acks = ["return-path", "switchover-ack"]
    outcome = migration(vm="none", devices=[device], capabilities=acks).run()
    assert outcome.completed, outcome
    assert observed.on_the_wire(outcome) == 1
    log = asked.calls(outcome)
    reads = list(log.calls("read", "vf0"))
    (stopped,) = [c for c in log.calls("set-state", "vf0") if c.with_["state"] == "stop-copy"]
    acked = outcome.source.trace.first(observed.ACKED)
    assert acked
    assert (acked.time_us or 0) < stopped.at
    assert {c.answer.get("errno") for c in reads if c.at < stopped.at} == {"ENOMSG"}
    assert {call.answer["initial_bytes"] for call in observed.sizes(outcome)} == {64 << 10}


def test_for_the_first_100_ms_nothing_is_little_enough(
    migration: "Migrate", vfio: "Vfio", same_build: "Build"
) -> None:
    """Even if the bandwidth is given, it is looked at only then; a threshold of 0 holds until."""
    if not pending.has_the_fixes(same_build):
        pytest.skip("before 11.1 what is left for stop-copy does not count at a threshold of 0")
    for _ in range(5):
        outcome = _early(migration, vfio)
        trace = outcome.source.trace
        threshold, decided = trace.first(pending.THRESHOLD), trace.first(observed.DECIDED)
        assert threshold
        assert decided
        assert threshold.line < decided.line
        assert threshold.args["max_size"] == ALLOWED
        early = list(trace.events(pending.QUERY, exact=1, before=threshold))
        if early:
            break
    assert early, "not reached: memory took too long"
    assert all(0 < int(event.args["total"]) <= ALLOWED for event in early)


def _early(migration: "Migrate", vfio: "Vfio") -> "Outcome":
    outcome = migration(
        vm="none",
        devices=[vfio.emulated("idle", stop_copy="64K")],
        capabilities=["return-path", "switchover-ack"],
        parameters={"avail-switchover-bandwidth": BANDWIDTH, "downtime-limit": LIMIT},
        trace=(pending.QUERY,),
    ).run()
    assert outcome.completed, outcome
    return outcome
