"""A supervisor whose devices have constant data that nobody checks: what migrating takes at least.

Run in place of `qmptests/vfio/start.py` by `benchmarks.vfio_stop_copy`. All else is as there;
that the verdict finds the data wrong is right.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from qmptests.vfio import content, emulated, start
from qmptests.vfio.calls import Span


class Constant(content.Content):
    """Leaves in a buffer what is there."""

    def fill(self, buffer: bytearray | memoryview, spans: Sequence[Span]) -> int:  # noqa: ARG002
        return sum(span.length for span in spans)

    def plausible(self, last: bytes, length: int) -> str:  # noqa: ARG002
        return ""


if __name__ == "__main__":
    changed: Any = emulated
    changed.Content = Constant
    changed.Emulated._begin_check = lambda _: False
    start.main()
