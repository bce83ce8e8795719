"""Three downtimes of one migration: where they differ, the interval that it is has a name."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests import builds
from qmptests.downtime import layout, measures, measures_text, sources
from qmptests.downtime.measures import Figure, Interval, Measures, compare
from qmptests.fixtures.migrating import Migration
from qmptests.migration import Observer, Phase
from qmptests.outcome import Outcome

if TYPE_CHECKING:
    from qmptests.migration.run import Run

Migrate = Callable[..., Migration]

VERSIONS = {"7.2": "debian:bookworm", "10.0": "debian:trixie", "11.1": "debian:trixie-backports"}
#: How long a guest is kept waiting where that is to be seen, in seconds.
HELD_S = 0.05


def of(outcome: Outcome) -> Measures:
    """The measures; what holds for each is checked."""
    assert outcome.completed, outcome
    made = measures.measure(sources.open(outcome.folder))
    assert made.qemu_us == (outcome.record.attempts[-1].times.downtime_ms or 0) * 1000
    assert all(len(line) <= layout.WIDTH for line in measures_text.lines(made))
    return made


def named(made: Measures) -> dict[str, int]:
    """The differences between QEMU's figure and ours; they explain it but for `unexplained`."""
    found = {
        interval.name: interval.us for interval in made.differences if interval.name != "guest"
    }
    assert made.ours_us is not None
    assert made.qemu_us is not None
    assert made.ours_uncertainty_us is not None
    allowed = max(measures.TOLERANCE_US, measures.TOLERANCE * made.ours_us)
    left = made.ours_us - made.qemu_us - sum(found.values())
    assert abs(left) <= allowed + made.ours_uncertainty_us
    return {name: us for name, us in found.items() if name != "unexplained"}


class Waits(Observer):
    """Keeps the guest from going on until `phase` has lasted a while; then says `cont` if asked."""

    def __init__(self, phase: Phase, *, cont: bool = False, stop: bool = False) -> None:
        self.phase, self.cont, self.stop = phase, cont, stop

    async def reached(self, phase: Phase, run: "Run") -> None:
        """Pass the time by asking QEMU, which takes no part in the migration then."""
        if phase is Phase.READY and self.stop:
            await run.source.execute("stop")
        if phase is not self.phase:
            return
        if self.cont:
            await run.destination.monitor.expect(
                "MIGRATION",
                lambda data: data == {"status": "completed"},
                what="the guest to arrive",
                timeout=30,
            )
        began = time.monotonic()
        while time.monotonic() - began < HELD_S:
            await run.source.runstate()
        if self.cont:
            await run.destination.execute("cont")


@pytest.mark.parametrize("version", VERSIONS)
def test_with_the_return_path_qemu_counts_until_the_source_has_heard(
    migration: Migrate, version: str
) -> None:
    build = builds.resolve(VERSIONS[version])
    made = of(migration(source=build, destination=build, capabilities=["return-path"]).run())
    differences = named(made)
    assert list(differences) == ["return path"]
    assert differences["return path"] <= 0
    assert made.guest_us is not None
    assert made.guest_uncertainty_us is not None
    assert made.within == []
    notes = [problem for problem in made.problems if "no checkpoints" in problem]
    assert len(notes) == (2 if version == "7.2" else 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_without_it_qemu_leaves_out_what_the_destination_still_does(
    migration: Migrate, version: str
) -> None:
    build = builds.resolve(VERSIONS[version])
    differences = named(of(migration(source=build, destination=build).run()))
    # The destination may have been quicker than the source in ending.
    possible = {"load", "start"} if version != "7.2" else {"load and start"}
    assert differences.keys() <= possible or list(differences) == ["source's end"]


@pytest.mark.parametrize("version", VERSIONS)
def test_waiting_for_migrate_continue_is_in_all_of_them(migration: Migrate, version: str) -> None:
    build = builds.resolve(VERSIONS[version])
    wanted = migration(
        source=build, destination=build, capabilities=["return-path", "pause-before-switchover"]
    )
    made = of(wanted.run(Waits(Phase.PRE_SWITCHOVER)))
    assert list(named(made)) == ["return path"]
    (held,) = made.within
    assert held.name == "pre-switchover"
    assert held.us >= HELD_S * 1e6
    for figure in (made.qemu_us, made.ours_us):
        assert figure is not None
        assert figure >= HELD_S * 1e6 - 1000
    assert made.guest_us is not None
    assert made.guest_us + (made.guest_uncertainty_us or 0) >= HELD_S * 1e6


@pytest.mark.parametrize("return_path", [False, True], ids=["one-way", "return-path"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_destination_that_waits_for_cont_is_not_running_for_us(
    migration: Migrate, version: str, return_path: bool
) -> None:
    """QEMU says that the VM was started, and ends its count, when the guest is still paused."""
    build = builds.resolve(VERSIONS[version])
    wanted = migration(source=build, destination=build, capabilities={"return-path": return_path})
    paused = replace(wanted, plan=replace(wanted.plan, destination_args=("-S",)))
    made = of(paused.run(Waits(Phase.ENDED, cont=True)))
    differences = named(made)
    assert list(differences)[-1] == "cont"
    assert differences["cont"] >= HELD_S * 1e6
    assert made.agree is False
    assert any("waits for" in line for line in measures_text.lines(made))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_that_stood_still_before_has_no_downtime(migration: Migrate, version: str) -> None:
    build = builds.resolve(VERSIONS[version])
    made = of(
        migration(source=build, destination=build).run(Waits(Phase.ENDED, cont=True, stop=True))
    )
    assert (made.ours_us, made.agree, made.differences) == (None, None, [])
    assert any("stood still before" in problem for problem in made.problems)


def test_the_second_attempt_is_not_taken_for_the_first(migration: Migrate) -> None:
    outcome = migration(
        capabilities=["pause-before-switchover"], cancel_at="pre-switchover", retries=1
    ).run()
    made = of(outcome)
    ended = outcome.record.attempts[1].ended - outcome.record.attempts[1].started
    assert made.ours_us is not None
    assert 0 < made.ours_us <= ended * 1e6 + 1_000_000
    assert made.guest_us is not None
    first = measures.measure(sources.open(outcome.folder, 0))
    assert (first.ours_us, first.guest_us, first.agree, first.within) == (None, None, None, [])
    assert "destination: the guest did not run there (no RESUME)" in first.problems


def test_a_guest_that_does_not_report_is_told(migration: Migrate) -> None:
    made = of(migration(vm="none").run())
    assert made.guest_us is None
    assert made.problems == ["the guest does not report, so its downtime is not known"]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_side_without_logs_has_no_downtime(migration: Migrate, tmp_path: Path, side: str) -> None:
    outcome = migration().run()
    for log in outcome.folder.glob(f"{side}.*"):
        log.rename(tmp_path / log.name)
    made = measures.measure(sources.open(outcome.folder))
    assert made.qemu_us is not None
    assert (made.ours_us, made.guest_us, made.agree) == (None, None, None)
    assert f"the guest did not report on the {side}" in made.problems


US = st.integers(0, 10**8)
UNCERTAIN = st.one_of(st.none(), st.integers(0, 10**5))


@given(US, st.builds(Figure, US, UNCERTAIN), st.builds(Figure, st.one_of(st.none(), US), UNCERTAIN))
def test_figures_that_differ_by_more_than_they_may_are_told_with_a_name(
    qemu: int, ours: Figure, guest: Figure
) -> None:
    made = compare(Figure(qemu, 1000), ours, guest, outside=[], within=[], problems=[])
    assert ours.us is not None
    names = [interval.name for interval in made.differences]
    assert made.agree is (not names)
    for interval in made.differences:
        of_whom = ours.us - qemu if interval.name == "unexplained" else (guest.us or 0) - ours.us
        assert interval.us == of_whom
        assert abs(interval.us) > max(measures.TOLERANCE_US, measures.TOLERANCE * ours.us) - 1
    assert all(len(line) <= layout.WIDTH for line in measures_text.lines(made))


@given(US, st.lists(US.map(lambda us: Interval("load", us, "why")), max_size=3))
def test_what_is_named_is_not_told_once_more(qemu: int, outside: list[Interval]) -> None:
    ours = Figure(qemu + sum(interval.us for interval in outside), 0)
    made = compare(Figure(qemu), ours, Figure(), outside=outside, within=[], problems=[])
    assert made.differences == [interval for interval in outside if interval.us]


def test_a_difference_is_told_in_a_few_lines() -> None:
    made = compare(
        Figure(5000, 1000),
        Figure(508_200, 0),
        Figure(509_900, 2100),
        outside=[
            Interval("load", 503_000, "the source has sent everything, the destination loads")
        ],
        within=[],
        problems=["QEMU told nothing else"],
    )
    assert measures_text.lines(made) == [
        "measured     QEMU 5 ms, ours 508.2 ms, the guest's 509.9 +- 2.1 ms (they",
        "             differ)",
        "             QEMU leaves out 503.0 ms, load: the source has sent",
        "             everything, the destination loads",
        "note         QEMU told nothing else",
    ]
