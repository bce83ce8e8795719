"""The bench's results as a mail takes them: 72 columns, no more than a page each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from qmptests.bench import prediction, rival, sample, series, spread, sweep, variants
from qmptests.bench.sample import Sample
from qmptests.bench.setting import Setting
from qmptests.downtime.layout import labelled, wrapped

_MIB = 1 << 20
Found = Mapping[str, Sequence[Sample]]


def inputs(setting: Setting) -> Iterator[str]:
    """All that went in."""
    yield f"inputs ({series.CAVEAT})"
    for name, text in setting.inputs():
        yield from wrapped(f"  {name}", text)


def comparison(found: Found, chosen: Sequence[variants.Variant]) -> Iterator[str]:
    """Medians of each side, and the series' figures below."""
    count = max(len(samples) for samples in found.values())
    yield f"medians of {count}, ms"
    yield (
        f"{'':<17}{'downtime':>9}{'+-':>6}{'busy':>6}{'rest':>6}{'left':>7}{'moved':>7}"
        f"{'total':>7}{'acks':>7}"
    )
    for variant in chosen:
        samples = found[variant.name]
        off = spread.of(s.downtime_ms for s in samples).off
        yield (
            f"{variant.name:<17}{_median(s.downtime_ms for s in samples):>9}"
            f"{'' if off is None else f'{off:.1%}':>6}"
            f"{_median(s.busy_ms for s in samples):>6}"
            f"{_median(s.rest_ms for s in samples):>6}"
            f"{_mib(s.read_in_stop_copy_bytes for s in samples):>7}"
            f"{_mib(s.moved_bytes for s in samples):>7}"
            f"{_median(s.total_ms for s in samples):>7}"
            f"{_median(s.waiting_for_acks_ms for s in samples):>7}"
        )
    for name, figures in (("series, with", series.WITH), ("series, without", series.WITHOUT)):
        rest = figures.downtime_ms - figures.busy_ms
        yield f"{name:<17}{figures.downtime_ms:>9}{'':6}{figures.busy_ms:>6}{rest:>6}"
    yield "left, moved: MiB of the busy device, read while the VM was stopped, and"
    yield "  from stop-copy to precopy by REINIT; acks: of total, waited for them"
    for variant in chosen:
        yield f"{variant.name}: {variant.what}"


def bargain(found: Found, chosen: Sequence[variants.Variant]) -> Iterator[str]:
    """What REINIT saves and what it costs, against each kind of without."""
    yes = found[variants.WITH.name]
    for variant in chosen:
        no = found[variant.name]
        figures = [
            (spread.of(getattr(s, name) for s in yes), spread.of(getattr(s, name) for s in no))
            for name in ("downtime_ms", "busy_ms", "total_ms")
        ]
        if variant is variants.WITH or any(not a.median or not b.median for a, b in figures):
            continue
        told = [f"{(a.median or 0) / (b.median or 1) - 1:+.0%}" for a, b in figures]
        yield f"against {variant.name}: downtime {told[0]}, busy {told[1]}, total time {told[2]}"
    without, with_ = series.WITHOUT, series.WITH
    yield (
        f"the series: downtime {with_.downtime_ms / without.downtime_ms - 1:+.0%}, "
        f"busy {with_.busy_ms / without.busy_ms - 1:+.0%}, total time not told"
    )
    yield from wrapped(
        "total time",
        "REINIT buys downtime with total time: what is moved is read while the guest runs, and "
        "switchover waits for the ack.",
    )
    yield from wrapped(
        "busy",
        "the device's part of downtime's critical path: its changes of state on both sides, "
        "its reads, their sending, its loading. The series doesn't say how it took its share.",
    )


def answers(found: Found) -> Iterator[str]:
    """How many REINITs, when, how much, how long each ack took: of the first with REINIT."""
    for one in found[variants.WITH.name][:1]:
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in one.busy_parts_ms.items())
        yield f"{one.folder}: {one.reinit_count} REINITs, {one.ack_count} acks, {one.passes} passes"
        yield f"  {one.moved_bytes / _MIB:.0f} MiB moved; the busy device's ms: {parts}"
        yield from (f"  {line}" for line in sample.told(one))


def foretold(
    points: Sequence[tuple[prediction.Point, bool, float | None]], found: Found
) -> Iterator[str]:
    """Each point's prediction beside its measurement; `found` is empty before the run."""
    head = f"{'late':<7}{'appears at':<17}{'threshold':>10}  {'REINIT':<7}{'predicted':>10}"
    yield head + (f"{'measured':>10}{'error':>8}" if found else "")
    errors = []
    for point, reinit, told in points:
        row = (
            f"{point.late // _MIB:>4} M {point.moment:<17}{point.threshold // _MIB:>8} M  "
            f"{'yes' if reinit else 'no':<7}{'never' if told is None else f'{told:.0f}':>10}"
        )
        if found:
            measured = spread.of(s.downtime_ms for s in found[side(point, reinit)]).median
            row += f"{'never' if measured is None else f'{measured:.0f}':>10}"
            if told is not None and measured is not None:
                errors.append(abs(told / measured - 1))
                row += f"{told / measured - 1:>+8.1%}"
        yield row
    if errors:
        yield f"the largest error is {max(errors):.1%}, of {len(errors)} predictions"


def side(point: prediction.Point, reinit: bool) -> str:
    """A side's name."""
    return f"{point.name}-{'reinit' if reinit else 'without'}"


def rivals(found: Found) -> Iterator[str]:
    """The two devices that explain the same downtimes, and what tells them apart."""
    yield f"{'':<24}{'downtime':>10}{'busy':>8}{'left MiB':>10}{'read':>7}{'send':>7}{'load':>6}"
    for name, samples in found.items():
        parts = [
            spread.of(s.busy_parts_ms.get(part, 0.0) for s in samples).median
            for part in ("read", "send", "load")
        ]
        yield (
            f"{name:<24}{_median(s.downtime_ms for s in samples):>10}"
            f"{_median(s.busy_ms for s in samples):>8}"
            f"{_mib(s.read_in_stop_copy_bytes for s in samples):>10}"
            f"{parts[0] or 0:>7.0f}{parts[1] or 0:>7.0f}{parts[2] or 0:>6.0f}"
        )
    yield from wrapped(
        "rival",
        f"{rival.LATE // _MIB} MiB appear late, and the destination takes {rival.LOAD_MS} ms to "
        "load them. Without REINIT the two have the same downtime, and with it too. The bytes read "
        "while the VM is stopped tell them apart (trace event vfio_save_block), and whether the "
        "busy device's time goes to reading or to loading.",
    )


def swept(rows: Iterable[sweep.Row]) -> Iterator[str]:
    """The sweep: what is saved, and what is paid for it."""
    axis = ""
    for row in rows:
        if row.axis != axis:
            axis = row.axis
            yield f"{axis:<16}{'downtime, ms':>16}{'total, ms':>17}{'saved':>7}{'paid':>7}{'':3}"
            yield f"{'':<16}{'without':>9}{'with':>7}{'without':>10}{'with':>7}"
        yield (
            f"{row.value:<16}{_ms(row.without_ms):>9}{_ms(row.with_ms):>7}"
            f"{_ms(row.total_without_ms):>10}{_ms(row.total_with_ms):>7}"
            f"{_ms(row.saved_ms, '-'):>7}{_ms(row.paid_ms, '-'):>7}{'  hurts' if row.hurts else ''}"
        )
    yield from labelled(
        "hurts", [f"total time rises by {sweep.CHANCE_MS} ms more than downtime falls"]
    )


def _ms(value: float | None, missing: str = "never") -> str:
    return missing if value is None else f"{value:.0f}"


def _median(figures: Iterable[float | None]) -> str:
    return _ms(spread.of(figures).median, "-")


def _mib(figures: Iterable[int | None]) -> str:
    median = spread.of(figures).median
    return "-" if median is None else f"{median / _MIB:.0f}"
