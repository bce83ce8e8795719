"""A run as a mail to a list takes it: Markdown of 72 columns, what failed with its evidence."""

import re
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from qmptests import pasting, printable
from qmptests.downtime import analysis, clocks, sources
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.timeline import Timeline
from qmptests.errors import InputError
from qmptests.matrix import common, summary, table
from qmptests.matrix.results import ItemResult, count
from qmptests.outcome import folder as outcomes
from qmptests.outcome.record import BuildRecord, OutcomeRecord, SideRecord
from qmptests.report.runs import Run, in_order, name_of

WIDTH = 72
#: What begins code, a tag or an address in Markdown.
_MARKUP = re.compile(r"[`<]|(?<=\])[(:]|~~~")
#: What at a line's beginning makes a heading, a quotation, a list, a rule or a table of it, up to
#: where a backslash takes that from it.
_BLOCK = re.compile(
    r"\A(?:(?=#{1,6}(?:\s|$)|>|[-+*](?:\s|$)|[-*_=|:\s]+$)|\d{1,9}(?=[.)](?:\s|$)))", re.ASCII
)
#: Kinds of failures of which one is told in full, and moments of each.
FAILURES, MOMENTS = 3, 20
#: What a reader of a migration's trace looks at first.
RELEVANT = frozenset(
    {
        "loadvm_approve_switchover",
        "loadvm_approve_switchover_legacy",
        "migrate_error",
        "migrate_set_state",
        "migration_thread_low_pending",
        "savevm_send_switchover_start",
        "source_return_path_thread_switchover_acked",
        "vfio_migration_set_device_state",
        "vfio_query_precopy_size_request_switchover_ack",
        "vfio_send_init_data_flag",
    }
)
_WITNESSES = (Witness.TRACE, Witness.MESSAGE)
#: What has no place in a mail: where each side's sockets, files and guest are.
_MACHINE, _VFIO = ("-machine", "-m", "-accel", "-cpu", "-smp"), "vfio"


def lines(run: Run) -> Iterator[str]:
    """The whole mail. What can't be read is a note, and the rest is told."""
    items = in_order(run.verdicts().items)
    ran = run.ran()
    counts = ", ".join(f"{number} {verdict}" for verdict, number in count(items).items())
    yield f"{len(items)} tests: {counts or 'nothing ran'}"
    for problem in run.problems:
        yield from _prose(f"note: {problem}")
    if not_checked := summary.not_checked_of(items):
        yield from _prose(" ".join(text.strip() for text in not_checked))
    yield ""
    for name, build in ran.builds.items():
        yield from _prose(f"{name}: {_build(build)}", "* ")
    if host := ran.host:
        yield from _prose(f"on {host.cpus} x {host.cpu}, Linux {host.kernel}", "* ")
        yield ""
    yield from _block(table.grid(table.rows(items, brief=True), WIDTH))
    if shared := common.sentence(items):
        yield ""
        yield from _prose(f"{shared[0].upper()}{shared[1:]}.", rest="")
    alike = summary.alike(item for item in items if item.verdict.bad)
    for group in alike[:FAILURES]:
        yield ""
        yield from _failure(run.folder, group)
    if left := sum(map(len, alike[FAILURES:])):
        yield ""
        yield f"And {left} more of other kinds, not told here."


def _block(told: Iterable[str]) -> Iterator[str]:
    """As it stands: Markdown takes it for code, up to a fence as long as the first."""
    rows = [printable.one_line(row) for row in told]
    if rows:
        fence = "`" * max([3, *(len(run) + 1 for row in rows for run in re.findall("`+", row))])
        yield from (fence, *rows, fence)


def _failure(folder: Path, alike: Sequence[ItemResult]) -> Iterator[str]:
    """The first of failures that are alike, in full."""
    item = alike[0]
    times = f", {len(alike)} times" if len(alike) > 1 else ""
    name = name_of(item).replace("[", " [", 1)  # a place to break a long line at
    yield from _prose(f"{item.verdict}{times}: {name}", "## ", "   ")
    yield ""
    yield from _prose(summary.reason(item))
    if not item.evidence:
        return
    try:
        outcome = outcomes.load(folder / item.evidence)
    except InputError as error:
        yield from _prose(str(error))
        return
    yield ""
    yield from _setting(outcome)
    yield ""
    yield from _block(_moments(folder / item.evidence))
    try:
        told = analysis.lines(analysis.analyse(folder / item.evidence))
    except InputError as error:
        told = _wrapped(str(error))
    yield ""
    yield from _block(told)


def _setting(outcome: OutcomeRecord) -> Iterator[str]:
    """Both builds, what they were run with, and the seeds of what is random."""
    sides = [("source", outcome.source)] if outcome.source else []
    sides += [("destination", side) for side in outcome.destinations[-1:]]
    for name, side in sides:
        yield from _prose(f"{name}: {_build(side.build)}", "* ")
        yield from _block(_wrapped(pasting.command(_told(side)), "  "))
    plan = outcome.plan
    on = [name for name, state in plan.capabilities.items() if state]
    settings = [*on, *(f"{name}={value}" for name, value in plan.parameters.items())]
    yield from _prose(f"migrate: {' '.join(settings) or 'nothing set'}", "* ")
    for device in outcome.source.devices if outcome.source else []:
        yield from _prose(f"{device.name}: {device.profile}, seed {device.seed}", "* ")


def _build(build: BuildRecord) -> str:
    return f"{build.origin.get('git') or build.version_text} ({build.spec})"


def _told(side: SideRecord) -> list[str]:
    """Of a command line what says which VM it is."""
    words = side.argv
    told = []
    for option, value in pairwise(words):
        if option in _MACHINE or (option == "-device" and value.startswith(_VFIO)):
            told += [option, value]
    return told


def _moments(folder: Path) -> Iterator[str]:
    """The last relevant ones of both sides, in order of time; milliseconds of the attempt."""
    evidence = sources.open(folder)
    line = Timeline(evidence, clocks.measure(evidence).destination_us)
    last: deque[Moment] = deque(maxlen=MOMENTS)
    for moment in line.moments(witnesses=_WITNESSES):
        if moment.witness is Witness.MESSAGE or moment.name in RELEVANT:
            last.append(moment)
    zero = evidence.began_us or (last[0].at_us if last else 0)
    for moment in last:
        text = " ".join(str(moment).split())
        head = f"{(moment.at_us - zero) / 1e3:>9.1f} {moment.side[:1].upper()} "
        yield from _wrapped(text, head, " " * (len(head) + 2))


def _prose(text: str, first: str = "", rest: str = "  ") -> Iterator[str]:
    """Of what is no block: no text makes a link, a tag or a block of its own.

    `first`, `rest`: what the first line and the others begin with, which is ours.
    """
    for number, line in enumerate(_wrapped(text, first, rest)):
        ours = rest if number else first
        yield ours + _BLOCK.sub(r"\g<0>\\", _MARKUP.sub(r"\\\g<0>", line[len(ours) :]), count=1)


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        printable.unwrapped(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest or f"{first}  ",
        break_on_hyphens=False,
    )
