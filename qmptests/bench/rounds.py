"""Repeats of several migrations in turn, so that what changes with time changes all alike."""

from collections.abc import Callable, Sequence
from pathlib import Path

from qmptests.bench import sample
from qmptests.bench.sample import Sample
from qmptests.migration import Observer, Plan, migrate
from qmptests.outcome import modes

#: (name, plan) of each side of a comparison.
Sides = Sequence[tuple[str, Plan]]


def run(
    sides: Sides,
    repeats: int,
    output: Path,
    say: Callable[[str], None],
    observers: Sequence[Observer] = (),
    *,
    mode: int = modes.PRIVATE,
) -> dict[str, list[Sample]]:
    """Each side `repeats` times, one of each in turn, its evidence in `output`/NAME-NUMBER.

    Raises InputError before anything starts for what is known to be impossible.
    """
    for _, plan in sides:
        plan.check()
    found: dict[str, list[Sample]] = {name: [] for name, _ in sides}
    count, done = repeats * len(sides), 0
    for number in range(1, repeats + 1):
        # Every other round backwards: none of them always has the same one before it.
        for name, plan in sides if number % 2 else reversed(sides):
            done += 1
            say(f"{done}/{count} {name}")
            outcome = migrate(plan, output / f"{name}-{number:02}", observers, mode=mode)
            found[name].append(sample.of(outcome))
    return found
