"""Peter Xu's series "VFIO fixes", which that of switchover-ack stands on: what each patch changed.

Each test says what QEMU does since 11.1, and what it did before. A device announces how much it
has for stop-copy, and has next to nothing: nothing takes long.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.migration import WhenHeld
from qmptests.suites.switchover_ack import observed, pending
from qmptests.suites.switchover_ack.pending import OUTLASTS_THE_FIRST_WINDOW, WhileActive
from qmptests.suites.vfio import asked
from qmptests.suites.vfio.attempts import said

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

#: Bytes a second, and milliseconds: what they allow, and what a device announces.
BANDWIDTH, LIMIT = 10**9, 300
ALLOWED = BANDWIDTH * LIMIT // 1000
GIB = 1 << 30
#: What QEMU takes a device to have that can't tell.
UNKNOWN = 100 * GIB
#: All the memory of the VM, which no estimate of it exceeds.
MEMORY = GIB >> 1
NEVER = (1 << 63) - 1


@pytest.fixture
def fixed(same_build: "Build") -> bool:
    """Whether the build has the series."""
    return pending.has_the_fixes(same_build)


def parameters(limit: int = LIMIT) -> dict[str, int]:
    return {"avail-switchover-bandwidth": BANDWIDTH, "downtime-limit": limit}


def one_device(
    migration: "Migrate",
    vfio: "Vfio",
    announce: int = GIB,
    rules: tuple[str, ...] = (OUTLASTS_THE_FIRST_WINDOW,),
    **plan: Any,
) -> "Migration":
    """By default QEMU has a threshold when all that can be sent in precopy has been."""
    device = vfio.emulated("idle", initial="64K", announce=announce, when=rules)
    ordinary = {"capabilities": ["return-path"], "parameters": parameters(), "timeout_s": 20.0}
    return migration(vm="none", **{"devices": [device], **ordinary, **plan})


def exact_queries(outcome: "Outcome") -> int:
    """How often the device was asked for its size once it was in precopy."""
    log = asked.calls(outcome).calls("data-size", "vf0")
    return sum(call.times for call in log) - 1  # the first one is asked before


class Waits(WhileActive):
    """QEMU knows what is left and does not switch over, until the limit is raised.

    `info`: query-migrate by then.
    """

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.info: dict[str, Any] = {}

    async def _wait(self, run: "Run") -> None:
        self.info = await pending.keeps_waiting(run.source)
        await pending.allow(run)


def test_stop_copy_data_counts_before_the_switchover(
    migration: "Migrate", vfio: "Vfio", fixed: bool
) -> None:
    """QEMU waits for a limit that it can keep.

    Before, what can't be sent in precopy did not count unless QEMU asked for exact sizes, which
    it did where less was left than the limit allows. With a limit of 0 that is never.
    """
    waits = Waits()
    wanted = one_device(migration, vfio, rules=(), parameters=parameters(0))
    outcome = wanted.run(*[waits][: int(fixed)])
    assert outcome.completed, outcome
    assert waits.count == fixed
    assert bool(exact_queries(outcome)) is fixed


def test_where_it_asks_for_exact_sizes_they_counted_before_as_well(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """So it hung on whether memory was sent before QEMU first had a threshold, after 100 ms."""
    waits = Waits()
    outcome = one_device(migration, vfio).run(waits)
    assert outcome.completed, outcome
    assert exact_queries(outcome) >= waits.count > 0


class Asked(WhenHeld):
    """While the device is asked for its size in precopy nothing moves: what QEMU says then.

    `info`: query-migrate. `passes`: those that it announced before. `left`: what it took to be
    left when it asked last, and when it asked for that exactly, by its trace, where that has it.
    `thresholds`: how often it had reckoned one.
    """

    def __init__(self) -> None:
        super().__init__("source", self._look)
        self.info: dict[str, Any] = {}
        self.passes: list[int] = []
        self.left: dict[str, int] = {}
        self.thresholds = 0

    async def _look(self, run: "Run") -> None:
        source = run.source
        self.info = await source.execute("query-migrate")
        self.passes = pending.announced(source)
        log = source.trace.log
        self.thresholds = log.count(pending.THRESHOLD)
        if pending.QUERY in log.enabled:
            for event in log.events(pending.QUERY):
                kind = "exact" if event.args["exact"] else "estimate"
                self.left[kind] = self.left["last"] = int(event.args["total"])
        await pending.allow(run)


def while_asked(
    migration: "Migrate",
    vfio: "Vfio",
    fixed: bool,
    announce: int = GIB,
    rules: tuple[str, ...] = (OUTLASTS_THE_FIRST_WINDOW, "data-size+hold+in=pre-copy+nth=3"),
    **plan: Any,
) -> tuple[Asked, "Outcome"]:
    """A migration, and what QEMU says while it asks the device for its size once more."""
    seen = Asked()
    traced = (pending.QUERY,) if fixed else ()
    outcome = one_device(migration, vfio, announce, rules, trace=traced, **plan).run(seen)
    assert outcome.completed, outcome
    assert seen.count == 1, "not reached"
    return seen, outcome


def test_the_expected_downtime_includes_the_device(
    migration: "Migrate", vfio: "Vfio", fixed: bool
) -> None:
    """1 GiB at 1e9 bytes a second: 1073 ms, and what memory is dirty. Before, the limit."""
    seen, _ = while_asked(migration, vfio, fixed)
    if fixed:
        assert 0 <= seen.left["exact"] - GIB < MEMORY
        assert seen.info["expected-downtime"] == seen.left["exact"] * 1000 // BANDWIDTH
    else:
        assert seen.info["expected-downtime"] == LIMIT


def test_what_remains_includes_the_device(migration: "Migrate", vfio: "Vfio", fixed: bool) -> None:
    """Memory's own `remaining` doesn't. Before, there was no other."""
    seen, _ = while_asked(migration, vfio, fixed)
    assert seen.info["ram"]["remaining"] < MEMORY
    assert seen.info.get("remaining") == seen.left.get("last")
    assert ("remaining" in seen.info) is fixed
    assert seen.info.get("remaining", GIB) >= GIB


def test_a_pass_is_announced_when_all_sizes_are_known(
    migration: "Migrate", vfio: "Vfio", fixed: bool
) -> None:
    """The first one that is announced is the second. Before, each sync of memory was a pass.

    So it was counted and announced before the devices were asked, and one more at the very end.
    """
    rules = (OUTLASTS_THE_FIRST_WINDOW, "data-size+hold+in=pre-copy")
    seen, outcome = while_asked(migration, vfio, fixed, rules=rules)
    names = [event.name for event in outcome.source.record.events]
    stop = names.index("STOP")
    assert pending.ANNOUNCED in names[:stop]
    assert seen.passes == ([] if fixed else [1, 2])
    assert seen.info["ram"]["dirty-sync-count"] == (1 if fixed else 2)
    assert outcome.source.record.events[names.index(pending.ANNOUNCED)].data == {"pass": 1 + fixed}
    assert (pending.ANNOUNCED in names[stop:]) is not fixed


@pytest.mark.parametrize("fits", [True, False], ids=["fits", "one-byte-more"])
def test_what_is_left_may_equal_what_the_limit_allows(
    migration: "Migrate", vfio: "Vfio", fixed: bool, fits: bool
) -> None:
    """300 ms at 1e9 bytes a second allow 300,000,000 bytes. Before, one less."""
    waits, size = Waits(), ALLOWED - (not fixed) + (not fits)
    outcome = one_device(migration, vfio, size).run(*[waits][: int(not fits)])
    assert outcome.completed, outcome
    assert waits.count == (not fits)
    trace = outcome.source.trace
    threshold, decided = trace.first(pending.THRESHOLD), trace.first(observed.DECIDED)
    assert threshold
    assert decided
    assert threshold.args["max_size"] == ALLOWED
    if fits:
        assert decided.args["pending"] == size, "not reached"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("data-size", "(VFIO_DEVICE_FEATURE) on VFIO_DEVICE_FEATURE_MIG_DATA_SIZE"),
        ("precopy-info", "(VFIO_MIG_GET_PRECOPY_INFO)"),
    ],
)
def test_a_device_that_cant_tell_its_sizes_is_warned_of_once(
    migration: "Migrate", vfio: "Vfio", fixed: bool, call: str, named: str
) -> None:
    """Once for all devices: of the second one nobody hears. Before, of neither."""
    rules = [OUTLASTS_THE_FIRST_WINDOW, f"{call}+errno=EIO+times=0+side=source"]
    devices = [vfio.emulated("idle", initial="64K", when=rules)] * 2
    limit = parameters(pending.ENOUGH)
    outcome = one_device(migration, vfio, devices=devices, parameters=limit).run()
    assert outcome.completed, outcome
    for device in ("vf0", "vf1"):
        failed = [c.times for c in asked.calls(outcome).calls(call, device) if "errno" in c.answer]
        assert sum(failed) > 1, "not reached"
    warned = re.findall(r"warning: VFIO device (\w+) ioctl(.*) failed \((.*)\)", said(outcome))
    assert warned == ([("vf0", named, "-5")] if fixed else [])


def test_a_device_that_cant_tell_its_size_counts_as_100_gib(
    migration: "Migrate", vfio: "Vfio"
) -> None:
    """It did so before, where it was asked."""
    waits = Waits()
    rules = (OUTLASTS_THE_FIRST_WINDOW, "data-size+errno=EIO+times=0+side=source")
    outcome = one_device(migration, vfio, rules=rules).run(waits)
    assert outcome.completed, outcome
    decided = outcome.source.trace.first(observed.DECIDED)
    assert decided
    assert 0 <= int(decided.args["pending"]) - UNKNOWN < MEMORY


def test_a_size_near_2_to_the_64th_is_reported_and_believed(
    migration: "Migrate", vfio: "Vfio", fixed: bool
) -> None:
    """It is reported only. Before, it was not.

    The migration goes on as long as the device says so, as nobody could allow for it.
    """
    huge = (1 << 64) - GIB
    rules = (
        OUTLASTS_THE_FIRST_WINDOW,
        "data-size+hold+in=pre-copy+nth=3",
        "data-size+announce=64K+in=pre-copy+nth=10",
    )
    _, outcome = while_asked(migration, vfio, fixed, huge, rules)
    text = f"vf0: Estimated stop copy size size overflow: {huge:#x}"
    assert (text in said(outcome)) is fixed


def test_the_expected_downtime_is_as_long_as_can_be_where_no_bandwidth_is_known(
    migration: "Migrate", vfio: "Vfio", fixed: bool
) -> None:
    """That is so for the first 100 ms. Before, the limit.

    Whether memory is sent by then is the machine's business: several attempts.
    """
    hold = "data-size+hold+in=pre-copy+nth=2" if fixed else "read+hold+in=pre-copy"
    for _ in range(5):
        limit = {"downtime-limit": LIMIT}
        seen, _ = while_asked(migration, vfio, fixed, rules=(hold,), parameters=limit)
        if not seen.thresholds:
            break
    assert not seen.thresholds, "not reached"
    assert seen.info["expected-downtime"] == (NEVER if fixed else LIMIT)
