"""How downtime and total time depend on a REINIT's size, its moment, and how many there are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from qmptests.bench import prediction, spread, variants
from qmptests.bench.sample import Sample
from qmptests.bench.setting import Setting
from qmptests.vfio import when

SIZE, MOMENT, COUNT = "size", "moment", "REINITs"
SIZES = (64 << 20, 256 << 20, 512 << 20, 816 << 20)
#: Of late data where its size is not what is looked at.
USUAL = 256 << 20
COUNTS = (1, 2, 4, 8, 16, 32)
#: Bytes that each of several REINITs brings.
EACH = 16 << 20
ENDLESS = "endless"
#: QEMU decides by what it measured in 100 ms: so much sooner or later is chance.
CHANCE_MS = 100
#: Seconds until a storm without an end is cancelled.
ENDLESS_S = 8.0
WITH, WITHOUT = variants.WITH, variants.WITHOUT[0]


class Point(NamedTuple):
    """One setting, along one axis."""

    axis: str
    value: str
    setting: Setting

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{self.axis}-{self.value}".replace(" ", "-").replace("'", "")


def points(setting: Setting) -> Iterator[Point]:
    """Along each axis."""
    for size in SIZES:
        yield Point(SIZE, f"{size >> 20}M", setting.with_busy(late=size))
    for moment in prediction.MOMENTS:
        point = prediction.Point(USUAL, moment, setting.threshold)
        yield Point(MOMENT, moment, point.apply(setting))
    for count in COUNTS:
        after = min(EACH, setting.spec.initial_bytes)
        keys = {"late": EACH, "late_after": after, "late_times": count, "late_at_stop": False}
        yield Point(COUNT, str(count), setting.with_busy(**keys))
    storm = when.parse(f"precopy-info+reinit={EACH}+times=0")
    endless = setting.with_busy(late=0, when=[storm])
    yield Point(COUNT, ENDLESS, replace(endless, timeout_s=ENDLESS_S))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One point, with REINIT and without: medians, milliseconds; None if it never switched over.

    `saved_ms`: by how much REINIT shortens the downtime; `paid_ms`: by how much it lengthens the
    migration. `hurts`: it pays more than it saves, and more than chance makes of it.
    """

    axis: str
    value: str
    with_ms: float | None
    without_ms: float | None
    total_with_ms: float | None
    total_without_ms: float | None
    waiting_ms: float | None
    reinits: float | None

    @property
    def saved_ms(self) -> float | None:
        """Downtime."""
        return _less(self.without_ms, self.with_ms)

    @property
    def paid_ms(self) -> float | None:
        """Total time."""
        return _less(self.total_with_ms, self.total_without_ms)

    @property
    def hurts(self) -> bool:
        """Without it, the migration would be better off."""
        if self.with_ms is None:
            return True
        if self.saved_ms is None or self.paid_ms is None:
            return False
        return self.paid_ms > max(self.saved_ms, 0) + CHANCE_MS


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def rows(made: Sequence[Point], found: Mapping[str, Sequence[Sample]]) -> list[Row]:
    """The points' medians; `found` as `rounds.run` gives it, named as `sides` names them."""
    table = []
    for point in made:
        yes, no = (found[f"{point.name}-{v.name}"] for v in (WITH, WITHOUT))
        table.append(
            Row(
                axis=point.axis,
                value=point.value,
                with_ms=spread.of(s.downtime_ms for s in yes).median,
                without_ms=spread.of(s.downtime_ms for s in no).median,
                total_with_ms=spread.of(s.total_ms for s in _arrived(yes)).median,
                total_without_ms=spread.of(s.total_ms for s in _arrived(no)).median,
                waiting_ms=spread.of(s.waiting_for_acks_ms for s in yes).median,
                reinits=spread.of(s.reinit_count for s in yes).median,
            )
        )
    return table


def _arrived(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.downtime_ms is not None]
