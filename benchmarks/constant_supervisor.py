"""A supervisor whose devices have constant data, which nobody checks: what migrating takes at least.

Run in place of `qmptests/vfio/supervisor.py` by `benchmarks.vfio_stop_copy`. All else is as there;
that the verdict finds the data wrong is right.
"""

import os
import sys
from collections.abc import Sequence

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from qmptests.vfio import content, emulated, supervisor
from qmptests.vfio.calls import Span


class Constant(content.Content):
    """Leaves in a buffer what is there."""

    def fill(self, buffer: bytearray | memoryview, spans: Sequence[Span]) -> int:  # noqa: ARG002
        return sum(span.length for span in spans)

    def plausible(self, last: bytes, length: int) -> str:  # noqa: ARG002
        return ""


def _begin_no_check(_: emulated.Emulated) -> bool:
    return False


if __name__ == "__main__":
    emulated.Content = Constant  # type: ignore[misc]
    emulated.Emulated._begin_check = _begin_no_check  # type: ignore[method-assign]
    supervisor.main()
