"""The test that the benchmarks of pytest run: a cell as short as the bare script's, repeated.

Not collected by itself: `QMPTESTS_REPEAT` says how often each cell is repeated.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize("number", range(int(os.environ.get("QMPTESTS_REPEAT", "1"))))
def test_cell(migration: Callable[..., Any], number: int) -> None:
    """As in every suite: it migrates, and the evidence is kept."""
    outcome = migration().run()
    assert outcome.completed, (number, outcome)
