from dataclasses import replace
import pytest
from qmptests.suites.vfio import asked
from qmptests.outcome import Result
pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]
SB=("-sandbox","on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
MEM=("-object","memory-backend-memfd,id=ram0,size=256M,share=on","-machine","memory-backend=ram0")
@pytest.mark.parametrize("kw", [dict(source_args=SB,destination_args=SB),dict(accelerator="kvm"),dict(wrapper=("env",)),dict(source_args=MEM,destination_args=MEM)])
def test_x(migration, vfio, kw):
    o=migration(devices=[vfio.emulated("busy")],capabilities=["return-path"],**kw).run()
    print("EV", kw, o)
    for s in ("source","destination"):
      log=asked.calls(o,s)
      for c in log.calls():
        if c.call.startswith("kvm") or "map-file" in c.call: print("EV",s,c.call, c.with_, c.answer, c.times)
    print("EV", o.record.source.stderr_tail)
    assert 0
