"""The figures that the table is held against, and what is not known of them.

Series "Make switchover-ack re-usable and add VFIO precopy REINIT feature" on qemu-devel, cover
letter of v1: one VM with 8 GB of RAM and four mlx5 VFs, one of them with about 1 GB of data and a
workload during precopy. It names the downtime in all, and the busy VF's part of it, without saying
how that part was taken. Workload, REINITs, their sizes and moments are not told.
"""

from typing import NamedTuple


class Figures(NamedTuple):
    """Downtime in milliseconds: in all, and the busy device's part."""

    downtime_ms: int
    busy_ms: int


WITHOUT = Figures(2352, 1600)
WITH = Figures(1335, 520)
CAVEAT = "calibrated to the series, not measured on mlx5"
