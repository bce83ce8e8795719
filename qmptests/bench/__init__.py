"""What REINIT buys: the series' table on emulated devices, its prediction, and sweeps around it."""

from qmptests.bench.sample import Sample
from qmptests.bench.setting import Setting

__all__ = ["Sample", "Setting"]
