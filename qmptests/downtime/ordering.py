"""A log's moments in order of time, in bounded memory, whatever its order was.

Threads write a trace log's lines slightly out of order, and an emulation tells of a call when that
is answered. Both are put right within a window. A log that goes back further has had its clock
set back: then what follows stands after what came before, as in the log.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from operator import attrgetter, sub

from qmptests.downtime.moments import Moment

#: Moments that are held back for others that belong before them.
WINDOW = 4096
#: No thread is this late, in microseconds, on whatever machine.
STEP_US = 1_000_000

by_time = attrgetter("at_us")


def ended(moment: Moment) -> int:
    """When it was over, which is when a log has it; microseconds since the epoch."""
    return moment.at_us + (moment.us or 0)


def in_order(
    batches: Iterable[list[Moment]],
    log: str,
    tell: Callable[[str, str], None],
    step_us: int = STEP_US,
) -> Iterator[list[Moment]]:
    """The same moments in order, a list of some at a time.

    `tell` is given what is wrong with the clock: a kind, of which the first is enough, and words.
    What goes back by more than `step_us` was stamped by a clock that had been set back.
    """
    held: list[Moment] = []
    newest = released = 0
    for batch in batches:
        rest = batch
        while rest:
            until, newest, back = _step(rest, newest, step_us)
            held += rest[:until]
            rest = rest[until:]
            held.sort(key=by_time)  # which is next to nothing for what is sorted already
            if rest:
                tell(
                    "step",
                    f"{log}: the clock went back by {back / 1e6:.3f} s; "
                    "what follows stands after what came before",
                )
                yield held
                held, newest, released = [], 0, 0
        if len(held) > WINDOW:
            ready, held = held[:-WINDOW], held[-WINDOW:]
            if ready[0].at_us < released:
                late = (released - ready[0].at_us) / 1e3
                tell("late", f"{log}: lines up to {late:.3f} ms late stand out of order")
            released = ready[-1].at_us
            yield ready
    yield held


def _step(batch: list[Moment], newest: int, step_us: int) -> tuple[int, int, int]:
    """How many come before a step back of the clock, when the newest of them ended, how far."""
    # As `ended`, but a call for each of a million would cost as much as all the rest here.
    ends = [moment.at_us + (moment.us or 0) for moment in batch]
    before = list(accumulate(ends, max, initial=newest))
    if max(map(sub, before, ends)) <= step_us:
        return len(batch), before[-1], 0
    index = next(n for n, end in enumerate(ends) if before[n] - end > step_us)
    return index, before[index], before[index] - ends[index]
