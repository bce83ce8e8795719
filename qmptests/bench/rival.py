"""Another device that explains the series' four figures as well, and how to tell it from ours.

Ours has much data that appears late; REINIT has it read in precopy. The rival has little, but the
destination takes long to *load* its initial data; REINIT has that done in precopy. Both give the
same downtimes, in all and of the busy device. What tells them apart in a lab: how many bytes the
source reads from the device while the VM is stopped (trace event `vfio_save_block`), or where the
busy device's time goes: to the source's read, or to the destination's load.
"""

from qmptests.bench.setting import Setting
from qmptests.vfio import when

#: Late data of the rival, what it can't have copied in precopy, and how long the destination takes
#: to load the late data, beside what each write takes anyway: fitted, as ours.
LATE, STOP_COPY, LOAD_MS = 16 << 20, 176 << 20, 935


def of(setting: Setting) -> Setting:
    """The setting with the rival as its busy device; the rest is the same."""
    after = setting.spec.initial_bytes + LATE // 2
    slow = f"write+delay={LOAD_MS}ms+after_bytes={after}+side=destination"
    return setting.with_busy(late=LATE, stop_copy=STOP_COPY, when=[when.parse(slow)])
