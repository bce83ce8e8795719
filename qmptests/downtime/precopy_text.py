"""The precopy story as a person reads it: at most 72 columns and some 25 lines, to fit a mail."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from qmptests.downtime.layout import LABEL, ROOM, labelled, wrapped
from qmptests.downtime.precopy_data import Ack, Device, Interval, Left, Pass, Sizes, Story, Why

T = TypeVar("T")

#: Lines that each table may take.
_INTERVALS, _PASSES, _DEVICES, _NOTES = 5, 2, 10, 2
#: Acks of a device that are told each by itself.
_ACKS = 3
#: Names that are told before the others are counted.
_NAMES = 3
_ENDED = {
    "switchover": "to the decision to switch over",
    "": "to the end of the logs",
    "cancelling": "until it was cancelled",
    "cancelled": "until it was cancelled",
    "failing": "until it failed",
    "failed": "until it failed",
}


def lines(story: Story) -> list[str]:
    """What is short: how long, what it waited for, what passes and devices had left."""
    out = []
    if story.intervals:
        ended = _ENDED.get(story.ended, f"until {story.ended}")
        out += _labelled("precopy", [f"{_ms(story.us)} ms from migrate {ended}"])
        out += _labelled("waiting for", _waiting(story))
        out += _labelled("switchover", _switchover(story))
        out += _labelled("passes", _passes(story))
        out += _devices(story)
    for note in story.notes[:_NOTES]:
        out += wrapped("note", note)
    return out


def size(count: int) -> str:
    """Bytes in few columns, with the suffixes of `units`: `12.5M`."""
    value = float(count)
    suffixes = iter(("", "K", "M", "G", "T", "P", "E"))
    suffix = next(suffixes)
    while value >= 1000 and suffix != "E":
        value, suffix = value / 1024, next(suffixes)
    return f"{value:.1f}".removesuffix(".0") + suffix


def reason(interval: Interval) -> str:
    """What switchover waited for, in words."""
    first, last = interval.first, interval.last
    match interval.why:
        case Why.SETUP:
            return "setup"
        case Why.BANDWIDTH:
            return "first bandwidth measurement (100 ms)"
        case Why.RAM:
            return "RAM's first pass" + (": devices are read after it" if last.devices else "")
        case Why.PAUSED:
            return f"the user, who paused the guest; {size(last.total)} left"
        case Why.BYTES:
            return f"{_owners(first)} {_change(first.total, last.total)} left, {_fit(interval)}"
        case Why.ACK:
            return f"ack from {_named(interval.devices)}{_initial(interval)}"
        case Why.UNKNOWN:
            if last.ram is None:
                return "nothing known (RAM's rest was not traced)"
            return f"nothing known: {size(last.total)} left, {_fit(interval)}"


def _waiting(story: Story) -> Iterator[str]:
    rows, rest = _few(story.intervals, _INTERVALS, lambda interval: interval.us)
    for row in rows:
        yield f"{_ms(row.us):>8} ms  {reason(row)}"
    if rest:
        yield f"{_ms(sum(row.us for row in rest)):>8} ms  in {len(rest)} shorter intervals"


def _switchover(story: Story) -> Iterator[str]:
    if not story.bandwidths:
        return
    last = story.bandwidths[-1]
    yield (
        f"{size(last.measured)}/s measured, {size(last.switchover)}/s assumed: "
        f"{size(last.fits)} fit {story.limit_ms} ms"
    )
    if story.pending is not None:
        expected = ""
        if last.switchover:
            expected = f": {_ms(story.pending * 1e6 / last.switchover)} ms expected"
        yield f"{size(story.pending)} left at the decision{expected}"


def _passes(story: Story) -> Iterator[str]:
    if not story.passes:
        return
    yield f"{story.pass_count}; what they left, and the downtime that would take:"
    rows, rest = _few(story.passes, _PASSES, lambda row: row.end_us - row.begin_us)
    for row in rows:
        yield _pass(story, row)
    if rest:
        yield f"{sum(row.until - row.number + 1 for row in rest)} shorter ones"


def _pass(story: Story, row: Pass) -> str:
    number = f"{row.number}" if row.number == row.until else f"{row.number}-{row.until}"
    text = f"{number} at {_ms(row.begin_us - story.begin_us)} ms"
    if row.last.devices or row.last.ram is not None:
        text += f": {_each(row.last)}"
        if row.expected_ms is not None:
            text += f", {'' if row.last.ram is not None else '>= '}{row.expected_ms:.1f} ms"
    return text


def _each(left: Left) -> str:
    """Who has how much left."""
    amounts = {} if left.ram is None else {"RAM": left.ram}
    amounts |= {name: sizes.left for name, sizes in left.devices.items()}
    names = list(amounts)
    shown = names if len(names) <= _NAMES + 1 else names[:_NAMES]
    told = [f"{name} {size(amounts[name])}" for name in shown]
    if len(shown) < len(names):
        rest = sum(amounts[name] for name in names[_NAMES:])
        told.append(f"{len(names) - _NAMES} more {size(rest)}")
    return ", ".join(told)


def _devices(story: Story) -> list[str]:
    """As many devices as there is room for."""
    out: list[str] = []
    for number, device in enumerate(story.devices):
        rows = _labelled(device.name[:LABEL], _device(story, device))
        if out and len(out) + len(rows) > _DEVICES:
            return out + _labelled("", [f"and {len(story.devices) - number} more devices"])
        out += rows
    return out


def _device(story: Story, device: Device) -> Iterator[str]:
    if device.first is not None and device.last is not None:
        yield _sizes(device.first, device.last)
    said = []
    if device.read_bytes:
        rate = f" at {size(round(device.rate))}/s" if device.rate else ""
        said.append(f"{size(device.read_bytes)} read{rate}")
    if device.reinit_count:
        last = device.reinits[-1]
        many = f"{device.reinit_count} REINITs, the last" if device.reinit_count > 1 else "REINIT"
        said.append(f"{many} at {_ms(last.at_us - story.begin_us)} ms: {size(last.initial)}")
    if said:
        yield ", ".join(said)
    if device.reinit_count:
        yield f"{size(device.moved_bytes)} moved from stop-copy to precopy by REINIT"
    acks = [ack for ack in story.acks if ack.device == device.name]
    if len(acks) > _ACKS:
        given = sum(ack.given_us is not None for ack in acks)
        yield f"{len(acks)} acks asked, {given} given; the last:"
        acks = acks[-1:]
    for ack in acks:
        yield _ack(story, ack)


def _ack(story: Story, ack: Ack) -> str:
    steps = (
        ("asked", ack.asked_us),
        ("sent", ack.sent_us),
        ("approved", ack.approved_us),
        ("given", ack.given_us),
    )
    told = [f"{word} {_ms(at - story.begin_us)}" for word, at in steps if at is not None]
    why = "ack" if ack.why == "setup" else f"{ack.why.upper()} ack"
    return f"{why} {', '.join(told)}{'' if ack.given_us is not None else ', never given'}"


def _sizes(first: Sizes, last: Sizes) -> str:
    parts = (
        ("initial", first.initial, last.initial),
        ("dirty", first.dirty, last.dirty),
        ("stop-copy", first.stop_copy, last.stop_copy),
    )
    told = [f"{name} {_change(one, two)}" for name, one, two in parts if one or two]
    return ", ".join(told) or "nothing"


def _owners(left: Left) -> str:
    names = ["RAM"] if left.ram else []
    names += [name for name, sizes in left.devices.items() if sizes.left]
    return _named(names) or "all"


def _named(names: Sequence[str]) -> str:
    if len(names) > _NAMES + 1:
        return f"{', '.join(names[:_NAMES])} and {len(names) - _NAMES} more"
    return ", ".join(names)


def _change(first: int, last: int) -> str:
    return size(last) if size(first) == size(last) else f"{size(first)} -> {size(last)}"


def _fit(interval: Interval) -> str:
    return "" if interval.fits is None else f"{size(interval.fits)} fit"


def _initial(interval: Interval) -> str:
    """How much initial data these devices have left, if any."""

    def of(left: Left) -> int:
        return sum(left.devices[n].initial for n in interval.devices if n in left.devices)

    first, last = of(interval.first), of(interval.last)
    return f" (initial {_change(first, last)})" if first or last else ""


def _few(items: list[T], most: int, weight: Callable[[T], float]) -> tuple[list[T], list[T]]:
    """The weightiest in their order, and the others."""
    if len(items) <= most + 1:
        return items, []
    chosen = set(sorted(range(len(items)), key=lambda n: weight(items[n]))[-most:])
    return (
        [item for number, item in enumerate(items) if number in chosen],
        [item for number, item in enumerate(items) if number not in chosen],
    )


def _labelled(label: str, texts: Iterable[str]) -> list[str]:
    return labelled(label, map(_cut, texts))


def _cut(text: str) -> str:
    return text if len(text) <= ROOM else f"{text[: ROOM - 1]}~"


def _ms(us: float) -> str:
    return f"{us / 1e3:.1f}" if us < 10_000_000 else f"{us / 1e3:.0f}"
