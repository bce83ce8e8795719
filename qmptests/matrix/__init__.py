"""The matrix: which migrations there are to be done, and what their failures mean."""

from qmptests.matrix.axes import Axes
from qmptests.matrix.cells import Cell, Reason
from qmptests.matrix.expression import Expression
from qmptests.matrix.ledger import Issue, Ledger
from qmptests.matrix.request import Request
from qmptests.matrix.results import ItemResult, RunResults, Verdict
from qmptests.matrix.selection import select
from qmptests.matrix.store import Matrix

__all__ = [
    "Axes",
    "Cell",
    "Expression",
    "Issue",
    "ItemResult",
    "Ledger",
    "Matrix",
    "Reason",
    "Request",
    "RunResults",
    "Verdict",
    "select",
]
