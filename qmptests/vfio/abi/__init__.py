"""The kernel's ABI as data: numbers and structures of VFIO, iommufd, seccomp notification and
/proc/PID/maps.

Each structure names its C type and the header that defines it; `tests/vfio/test_abi.py` compiles
both and compares every offset, size and number. Little-endian, as on x86-64 and aarch64.
"""

from qmptests.vfio.abi.iommufd import *
from qmptests.vfio.abi.kvm import *
from qmptests.vfio.abi.layout import *
from qmptests.vfio.abi.proc import *
from qmptests.vfio.abi.seccomp import *
from qmptests.vfio.abi.vfio import *
