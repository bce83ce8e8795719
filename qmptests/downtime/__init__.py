"""One time line of a migration from all witnesses, and where its downtime went."""

from qmptests.downtime.analysis import Analysis, analyse, explained, lines
from qmptests.downtime.breakdown import Breakdown, Share
from qmptests.downtime.busy import Busy
from qmptests.downtime.clocks import Offset
from qmptests.downtime.critical import Segment
from qmptests.downtime.measures import Measures
from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.precopy_data import Story

__all__ = [
    "Analysis",
    "Breakdown",
    "Busy",
    "Measures",
    "Moment",
    "Offset",
    "Segment",
    "Share",
    "Story",
    "Witness",
    "analyse",
    "explained",
    "lines",
]
