"""The breakdown of downtime as a person reads it: at most 72 columns, so that it fits a mail."""

import textwrap
from collections.abc import Iterable, Iterator

from qmptests.downtime.breakdown import Breakdown, Share
from qmptests.downtime.busy import Busy
from qmptests.downtime.critical import CONFIG, READ, SEND, UNATTRIBUTED, WRITE
from qmptests.downtime.layout import ROOM, labelled, wrapped

#: Shares below this part of the downtime are put together.
SMALL = 0.02
#: Who was busy for less, in microseconds, is only counted.
BRIEF_US = 300
#: Columns for the step and who it was.
_WHO = 32
#: Columns for who was busy.
_OWNER = 16
_WHAT = {READ: "read", SEND: "sent", WRITE: "written", CONFIG: "config"}


def lines(breakdown: Breakdown) -> list[str]:
    """The critical path in order of time, then who was busy."""
    out = labelled("downtime", [f"{_ms(breakdown.us)} ms from VM stop to VM running"])
    out += labelled("critical", _path(breakdown))
    out += labelled("busy", _busy(breakdown.busy))
    for note in breakdown.notes:
        out += wrapped("note", note)
    return out


def _path(breakdown: Breakdown) -> Iterator[str]:
    small: dict[tuple[str, str], list[Share]] = {}
    shares = breakdown.shares()
    rows: list[tuple[str, str, str, int]] = []
    for share in shares:
        if share.us >= SMALL * breakdown.us and share.owner != UNATTRIBUTED:
            what = f"{_short(share.owner)} {_WHAT.get(share.what, '')}".rstrip()
            rows.append((share.side, share.step, what, share.us))
        elif share.owner != UNATTRIBUTED:
            key = share.side, share.step
            if key not in small:
                rows.append((*key, "", 0))
            small.setdefault(key, []).append(share)
    for side, step, what, us in rows:
        text, length = what, us
        if not what:
            few = small[side, step]
            names = list(dict.fromkeys(_short(share.owner) for share in few))
            text = ", ".join(names) if len(names) <= 3 else f"{len(names)} others"
            length = sum(share.us for share in few)
        yield _row(side, step, text, length, breakdown.us)
    if breakdown.unattributed_us:
        yield _row("", "", "unattributed", breakdown.unattributed_us, breakdown.us)


def _row(side: str, step: str, text: str, us: int, whole: int) -> str:
    who = f"{step:<6} {text}"
    if len(who) > _WHO:
        who = f"{who[: _WHO - 1]}~"
    return f"{side:<11} {who:<{_WHO}} {_ms(us):>7}  {100 * us / whole:3.0f} %"


def _busy(busy: Iterable[Busy]) -> Iterator[str]:
    """A line for each owner; times of one that is brief everywhere are left out."""
    owners: dict[str, list[Busy]] = {}
    for one in busy:
        owners.setdefault(one.owner, []).append(one)
    brief = 0
    for owner, ones in owners.items():
        long = [one for one in ones if one.us >= BRIEF_US]
        if not long:
            brief += 1
            continue
        words = []
        for one in long:
            inside = ""
            if one.calls_us is not None:
                inside = f" ({_WHAT[READ if one.side == 'source' else WRITE]} {_ms(one.calls_us)})"
            words.append(f"{one.step} {_ms(one.us)}{inside}")
        told = textwrap.wrap(", ".join(words), ROOM - _OWNER - 1)
        name = _short(owner)[:_OWNER]
        yield from (f"{'' if n else name:<{_OWNER}} {line}" for n, line in enumerate(told))
    if brief:
        yield f"{brief} more, below {_ms(BRIEF_US)} ms in each step"


def _short(owner: str) -> str:
    """Sections of PCI devices are mostly on the first bus of the first domain."""
    return owner.removeprefix("0000:00:")


def _ms(us: int) -> str:
    return f"{us / 1e3:.1f}"
