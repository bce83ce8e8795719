"""Downtime told from the inputs alone, before anything runs.

The source saves one device after the other while it is stopped, so the downtime is the sum of all
devices' changes of state, and the time to read what the busy one has left:

    downtime = sum of arcs + left / read rate

What is left depends on what QEMU waits for. It waits for initial data, through the ack, and until
what is known to be left fits into the threshold; never for dirty data that fits.

| late data | without REINIT | with it |
|---|---|---|
| appears in precopy | dirty: it is left, as far as it fits | initial: nothing of it is left |
| appears at the VM's stop | all of it is left, nobody knew of it | the same |
| what can't be copied in precopy fits no threshold | QEMU never switches over | the same |
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from qmptests.bench.setting import Setting

#: Sizes of late data, moments at which it appears, thresholds: all with all. Each moment is how
#: much of the device has to be read for it: half of the initial data, all, or more than there is.
SIZES = (256 << 20, 816 << 20)
MOMENTS = ("half of initial", "all of initial", "VM's stop")
THRESHOLDS = (512 << 20, 2048 << 20)


class Point(NamedTuple):
    """One setting of which the downtime is foretold."""

    late: int
    moment: str
    threshold: int

    @property
    def name(self) -> str:
        """For a folder."""
        moment = ("half", "all", "stop")[MOMENTS.index(self.moment)]
        return f"{self.late >> 20}M-{moment}-{self.threshold >> 20}M"

    def apply(self, setting: Setting) -> Setting:
        """The setting with this late data and this threshold."""
        initial = setting.spec.initial_bytes
        after = (initial // 2, initial, 1 << 40)[MOMENTS.index(self.moment)]
        changed = setting.with_busy(late=self.late, late_after=after, late_at_stop=True)
        # Upwards: QEMU divides, and what fits exactly is to fit.
        bandwidth = -(-self.threshold * 1000 // setting.downtime_limit)
        return replace(changed, switchover_bandwidth=bandwidth)


def points() -> Iterator[Point]:
    """All that are foretold."""
    for late in SIZES:
        for moment in MOMENTS:
            for threshold in THRESHOLDS:
                yield Point(late, moment, threshold)


def left(
    initial: int, late: int, late_after: int, stop_copy: int, threshold: int, *, reinit: bool
) -> int | None:
    """Bytes that the busy device has left when the VM is stopped; None: that never happens.

    `initial`, `late`, `late_after`, `stop_copy`: bytes, as in a VFIO profile with `late_at_stop`.
    """
    if stop_copy > threshold:
        return None
    if late_after > initial:
        return late + stop_copy
    return stop_copy if reinit else min(late + stop_copy, threshold)


def downtime_ms(setting: Setting, *, reinit: bool) -> float | None:
    """The downtime, milliseconds; None if QEMU never switches over."""
    spec = setting.spec
    rest = left(
        spec.initial_bytes,
        spec.late_bytes,
        spec.late_after,
        spec.stop_copy,
        setting.threshold,
        reinit=reinit,
    )
    if rest is None:
        return None
    rate = spec.read_bandwidth
    return sum(setting.arcs_ms) + (rest * 1e3 / rate if rate else 0.0)
