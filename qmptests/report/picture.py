"""One migration as two pictures: both sides from `migrate` on, and the downtime by itself. Pure.

They are SVG for a page whose style sheet has the classes c0 to c9 and g; 1000 units wide. Whatever
a migration did, a picture stays small: what is narrower than a hair is put together.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from qmptests.downtime.analysis import Analysis
from qmptests.downtime.breakdown import Breakdown
from qmptests.downtime.critical import UNATTRIBUTED, Segment
from qmptests.downtime.precopy_data import Story, Why
from qmptests.downtime.sources import DESTINATION, SOURCE

#: Shares of the downtime have so many colours; the others are grey.
COLOURS = 10
GREY = "g"
#: Shares below this part of the downtime are grey, and one line of the table.
SMALL = 0.01
OTHERS = "others"
#: Device lanes, and marks of one kind, that are drawn.
MOST_DEVICES, MOST_MARKS = 8, 40

#: How to read a picture.
MARKS = (
    "From a ring to a dot is an ack, from asked to given; a triangle is a REINIT. Many short turns "
    "are drawn as a few, of the same lengths in all."
)

_LEFT, _RIGHT = 110.0, 975.0
_LANE, _GAP = 18, 8
#: What is narrower than a hair is drawn together with its neighbours, as much as fills a block.
_HAIR, _BLOCK = 4.0, 40.0
#: Width of a letter of 12 units.
_LETTER = 7.0
_WHY = {
    Why.SETUP: GREY,
    Why.PAUSED: "c5",
    Why.BANDWIDTH: "c4",
    Why.BYTES: "c1",
    Why.ACK: "c3",
    Why.RAM: "c0",
    Why.UNKNOWN: GREY,
}


class Share(NamedTuple):
    """A part of the downtime's critical path: who had it. `colour`: its class.

    `number`: what it is called in the picture, "" if it has no colour.
    """

    number: str
    colour: str
    side: str
    what: str
    ms: float
    part: float


class Wait(NamedTuple):
    """A part of precopy with one reason. `colour`: its class."""

    colour: str
    why: str
    ms: float


class _Bar(NamedTuple):
    """`label`: what is in it, if there is room; `title`: what it says when it is pointed at."""

    begin: float
    end: float
    colour: str
    label: str
    title: str = ""


def shares(downtime: Breakdown) -> list[Share]:
    """The critical path by side, owner and step, in order of time; small ones are the last line."""
    colours = _colours(downtime)
    rest, found = 0.0, []
    for share in downtime.shares():
        colour = colours[share.side, share.owner, share.step, share.what]
        part = share.us / downtime.us
        if part < SMALL:
            rest += share.us
        else:
            what = _called(share.owner, share.step, share.what)
            found.append(Share(_number(colour), colour, share.side, what, share.us / 1e3, part))
    if rest:
        found.append(Share("", GREY, "", OTHERS, rest / 1e3, rest / downtime.us))
    return found


def waits(story: Story) -> list[Wait]:
    """What switchover waited for, each reason once, in the order in which it first came."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for one in story.intervals:
        found[_WHY[one.why], f"{one.why} {', '.join(one.devices)}".rstrip()] += one.us / 1e3
    return [Wait(colour, why, ms) for (colour, why), ms in found.items()]


def whole(made: Analysis) -> str:
    """From `migrate` to the VM's running at the destination: lanes of both sides, and of devices.

    A triangle is a REINIT; a line from a ring to a dot is an ack, from asked to given.
    """
    story, downtime = made.precopy, made.downtime
    begin = story.begin_us
    end = max(downtime.end_us if downtime else 0, story.end_us)
    if end <= begin:
        return ""
    scale = _Scale(begin, end)
    source = [
        _Bar(i.begin_us, i.end_us, _WHY[i.why], f"{i.why} {', '.join(i.devices)}".rstrip())
        for i in story.intervals
    ]
    lanes = [(SOURCE, source), (DESTINATION, [])]
    if downtime:
        source.append(_Bar(downtime.begin_us, downtime.end_us, "stopped", "VM stopped"))
        loads = [s for s in downtime.path if s.side == DESTINATION]
        since = loads[0].begin_us if loads else downtime.end_us
        lanes[1][1].append(_Bar(since, downtime.end_us, "stopped", "loads, starts"))
    devices = _devices(story)
    height = (len(lanes) + len(devices)) * (_LANE + _GAP)
    out = [*_axis(scale, height)]
    if downtime:
        left, right = scale.at(downtime.begin_us), scale.at(downtime.end_us)
        out.append(f'<rect class="band" x="{left:.1f}" y="0" width="{right - left:.1f}" '
                   f'height="{height}"/>')  # fmt: skip
    for number, (name, bars) in enumerate(lanes):
        out += _lane(scale, number, name, bars)
    for number, name in enumerate(devices, len(lanes)):
        out += _lane(scale, number, name, [])
        out += _marks(scale, story, name, _top(number))
    said = [f"{wait.why} {wait.ms:.1f} ms" for wait in waits(story)]
    if downtime:
        said.append(f"downtime {downtime.us / 1e3:.1f} ms")
    return _svg(height, f"from migrate on: {', '.join(said)}", out)


def stopped(downtime: Breakdown) -> str:
    """The downtime by itself: who had each instant, in the lane of the side that was at work."""
    scale = _Scale(downtime.begin_us, downtime.end_us)
    colours = _colours(downtime)
    height = 2 * (_LANE + _GAP)
    out = [*_axis(scale, height)]
    for number, side in enumerate((SOURCE, DESTINATION)):
        bars = [
            _Bar(s.begin_us, s.end_us, colours[key], _number(colours[key]), _called(*key[1:]))
            for s in downtime.path
            if (key := _key(s))[0] == side
        ]
        out += _lane(scale, number, side, bars)
    said = [f"{one.side} {one.what} {one.ms:.1f} ms".lstrip() for one in shares(downtime)]
    return _svg(height, f"downtime: {', '.join(said)}", out)


class _Scale:
    """Microseconds to units."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self._per_us = (_RIGHT - _LEFT) / (end - begin)

    def at(self, us: float) -> float:
        """Where it lies; what is outside lies on the edge."""
        return _LEFT + (min(max(us, self.begin), self.end) - self.begin) * self._per_us

    def wide(self, bar: _Bar) -> float:
        """How wide a bar is."""
        return self.at(bar.end) - self.at(bar.begin)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """From four to ten round times, milliseconds after the begin."""
        whole = (self.end - self.begin) / 1e3
        step = 10.0**-3
        while whole / step >= 10:
            step *= 2 if f"{step:e}"[0] in "15" else 2.5
        count = int(whole / step)
        for number in range(count + 1):
            ms = number * step
            yield self.at(self.begin + ms * 1e3), f"{ms:g}"


def _key(segment: Segment) -> tuple[str, str, str, str]:
    return segment.side, segment.owner, segment.step, segment.what


def _number(colour: str) -> str:
    return "" if colour == GREY else str(int(colour[1:]) + 1)


def _called(owner: str, step: str, what: str) -> str:
    if owner == UNATTRIBUTED:
        return "unattributed"
    return " ".join(word for word in (owner, step, what) if word)


def _colours(downtime: Breakdown) -> dict[tuple[str, str, str, str], str]:
    """The longest shares have colours, in order of time."""
    every = downtime.shares()
    long = sorted((s.us for s in every if s.owner != UNATTRIBUTED), reverse=True)[:COLOURS]
    least = max(long[-1] if long else 0, SMALL * downtime.us)
    found: dict[tuple[str, str, str, str], str] = {}
    number = 0
    for share in every:
        coloured = share.owner != UNATTRIBUTED and share.us >= least and number < COLOURS
        found[share.side, share.owner, share.step, share.what] = f"c{number}" if coloured else GREY
        number += coloured
    return found


def _devices(story: Story) -> list[str]:
    """Those that have marks come first. A legacy ack is of no device: its lane has no name."""
    marked = [ack.device for ack in story.acks] + [d.name for d in story.devices if d.reinits]
    return list(dict.fromkeys([*marked, *(d.name for d in story.devices)]))[:MOST_DEVICES]


def _top(number: int) -> int:
    return number * (_LANE + _GAP) + _GAP // 2


def _lane(scale: _Scale, number: int, name: str, bars: Iterable[_Bar]) -> Iterator[str]:
    top = _top(number)
    yield f'<text x="0" y="{top + 13}">{escape(_cut(name or "all devices", _LEFT))}</text>'
    yield f'<rect class="lane" x="{_LEFT}" y="{top}" width="{_RIGHT - _LEFT}" height="{_LANE}"/>'
    for bar in _thinned(scale, list(bars)):
        left, width = scale.at(bar.begin), scale.at(bar.end) - scale.at(bar.begin)
        ms = (bar.end - bar.begin) / 1e3
        label = escape(bar.label)
        title = escape(bar.title or bar.label)
        yield (
            f'<rect class="{bar.colour}" x="{left:.1f}" y="{top}" width="{max(width, 0.5):.1f}" '
            f'height="{_LANE}"><title>{title} {ms:.1f} ms</title></rect>'
        )
        if len(bar.label) * _LETTER + 8 < width:
            yield f'<text class="in {bar.colour}" x="{left + 4:.1f}" y="{top + 13}">{label}</text>'


def _thinned(scale: _Scale, bars: Sequence[_Bar]) -> Iterator[_Bar]:
    """Neighbours that are alike as one. Hairs that alternate are sorted, a block at a time."""
    joined: list[_Bar] = []
    for bar in bars:
        if joined and bar.begin <= joined[-1].end and bar[2:] == joined[-1][2:]:
            joined[-1] = joined[-1]._replace(end=bar.end)
        else:
            joined.append(bar)
    block: list[_Bar] = []
    for bar in joined:
        hair = scale.wide(bar) < _HAIR
        if block and (not hair or bar.begin > block[-1].end or _full(scale, block)):
            yield from _sorted(block)
            block = []
        if hair:
            block.append(bar)
        else:
            yield bar
    yield from _sorted(block)


def _full(scale: _Scale, block: Sequence[_Bar]) -> bool:
    return scale.at(block[-1].end) - scale.at(block[0].begin) >= _BLOCK


def _sorted(block: Sequence[_Bar]) -> Iterator[_Bar]:
    """The same lengths, each kind as one bar."""
    lengths: dict[_Bar, float] = defaultdict(float)
    for bar in block:
        lengths[bar._replace(begin=0, end=0)] += bar.end - bar.begin
    at = block[0].begin if block else 0
    for kind, length in lengths.items():
        yield kind._replace(begin=at, end=at + length)
        at += length


def _marks(scale: _Scale, story: Story, name: str, top: int) -> Iterator[str]:
    middle = top + 12

    def ms(us: int) -> str:
        return f"{(us - story.begin_us) / 1e3:.1f} ms"

    acks = [ack for ack in story.acks if ack.device == name]
    for ack in acks[-MOST_MARKS:]:
        left = scale.at(ack.asked_us)
        given = "not given" if ack.given_us is None else f"given at {ms(ack.given_us)}"
        title = f"<title>{escape(ack.why)} ack asked at {ms(ack.asked_us)}, {given}</title>"
        yield f'<circle class="asked" cx="{left:.1f}" cy="{middle}" r="3.5">{title}</circle>'
        if ack.given_us is not None:
            right = scale.at(ack.given_us)
            yield f'<path class="ack" d="M{left + 4:.1f} {middle}H{max(right, left + 4):.1f}"/>'
            yield f'<circle class="given" cx="{right:.1f}" cy="{middle}" r="3.5">{title}</circle>'
    for device in story.devices:
        for one in device.reinits[-MOST_MARKS:] if device.name == name else ():
            x = scale.at(one.at_us)
            yield (
                f'<path class="reinit" d="M{x:.1f} {top + 8}l6-9h-12z"><title>REINIT at '
                f"{ms(one.at_us)}: {one.initial} bytes initial, {one.new} of them new"
                "</title></path>"
            )


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    for x, label in scale.ticks():
        yield f'<path class="tick" d="M{x:.1f} 0V{height}"/>'
        yield f'<text class="at" x="{x:.1f}" y="{height + 13}">{label}</text>'


def _svg(height: int, said: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 1000 {height + 18}" role="img" aria-label="{escape(said)}">'
        f"{''.join(parts)}</svg>"
    )


def _cut(text: str, room: float) -> str:
    most = int(room / _LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"
