from collections.abc import Callable
from typing import TYPE_CHECKING
import pytest
from qmptests.suites.vfio import asked
pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]
@pytest.mark.parametrize("kw", [{}, {"dirty_tracking":"iommu"}, {"dirty_tracking":"none","enable__migration":"on"}, {"dirty_tracking":"iommu","x__device__dirty__page__tracking":"off"},{"x__device__dirty__page__tracking":"off","enable__migration":"on"}, {"x__pre__copy__dirty__page__tracking":"off"}])
def test_x(migration, vfio, kw):
    o=migration(devices=[vfio.emulated("idle",**kw)]).run()
    print(kw)
    log=asked.calls(o)
    for c in log.calls():
        if c.call.startswith("dma-") or "dirty" in c.call or c.call in ("hwpt-alloc","hw-info") or c.call=="probe" or c.call=="set-state": print(c.call, c.with_, c.answer, c.times)
    print(o.source.record.stderr_tail, o.record.memory)
    assert 0
