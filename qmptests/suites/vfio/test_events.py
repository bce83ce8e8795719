from dataclasses import replace
import pytest
from qmptests.suites.vfio import asked
from qmptests.outcome import Result
pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]
@pytest.mark.parametrize("kw", [{}, {"when":["set-state:stop-copy+errno=EIO+side=source"]}, {"when":["set-state:running+errno=EIO+side=destination"]},  {"when":["set-state:pre-copy+errno=EIO"]},{"p2p":False}, {"when":["read+errno=EIO+in=stop-copy"]}])
def test_x(migration, vfio, kw):
    o=migration(devices=[vfio.emulated("idle",migration__events="on",**kw)],vm="none",capabilities=["return-path"]).run()
    print(kw)
    for r in (o.source.record,o.destination.record):
        print("EV", r.name, [e.data.get("device-state",e.data.get("status",e.name)) + ("*%d"%e.count if e.count>1 else "") for e in r.events if e.name!="MIGRATION_PASS"])
    print("EV", [e.data for e in o.source.record.events if e.name=="VFIO_MIGRATION"][:1])
    assert 0
