"""Everything that is derived from the evidence of one attempt, and can be derived again."""

from pathlib import Path

import msgspec

from qmptests import files, jsontext
from qmptests.downtime import (
    breakdown,
    breakdown_text,
    clocks,
    measures,
    measures_text,
    precopy,
    sources,
)
from qmptests.downtime.breakdown import Breakdown
from qmptests.downtime.clocks import Offset
from qmptests.downtime.measures import Measures
from qmptests.downtime.precopy import Story
from qmptests.migration.collect import own_version
from qmptests.outcome import Outcome, modes

ANALYSER = 1
"""Raised when the same evidence gives other figures than before."""


class Analysis(msgspec.Struct, kw_only=True):
    """The figures of one attempt; times are microseconds on the source's clock.

    `downtime` is None if the guest did not come to run at the destination. `problems`: what is
    wrong with the evidence, a line each.
    """

    analyser: int = ANALYSER
    qmptests: str
    clocks: Offset
    measures: Measures
    downtime: Breakdown | None
    precopy: Story
    problems: list[str]


def analyse(folder: Path, attempt: int = -1) -> Analysis:
    """Of an outcome's folder. Attempts are counted as a list's items: the last one is -1.

    Raises InputError if there is no outcome at all, or no such attempt.
    """
    return of(sources.open(folder, attempt))


def of(evidence: sources.Evidence) -> Analysis:
    """The same, of evidence that is open."""
    offset = clocks.measure(evidence)
    return Analysis(
        qmptests=own_version(),
        clocks=offset,
        measures=measures.measure(evidence, offset),
        downtime=breakdown.of(evidence, offset.destination_us),
        precopy=precopy.story(evidence, offset.destination_us),
        problems=[*dict.fromkeys([*evidence.problems, *offset.problems])],
    )


def explained(outcome: Outcome) -> list[str]:
    """`lines` for an outcome of this moment, the analysis being kept beside it.

    Raises nothing: what can't be analysed is a line that says so, since the outcome stands anyway.
    """
    if not outcome.record.attempts:
        return []
    try:
        made = analyse(outcome.folder)
        file = outcome.folder / "analysis.json"
        files.replace(file, jsontext.encode(made), modes.of_files(file.parent))
        return lines(made)
    except Exception as error:  # noqa: BLE001 - see above
        return [f"{'note':<12} the downtime can't be explained: {type(error).__name__}: {error}"]


def lines(analysis: Analysis) -> list[str]:
    """What a mail has room for: the precopy story, the downtimes, and whose the downtime was."""
    out = precopy.lines(analysis.precopy)
    if analysis.downtime is None:
        return [*out, f"{'downtime':<12} none: no log shows the guest run at the destination"]
    out += measures_text.lines(analysis.measures)
    return out + breakdown_text.lines(analysis.downtime)
