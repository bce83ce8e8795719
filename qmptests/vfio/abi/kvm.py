"""What KVM is told of VFIO (linux/kvm.h)."""

from typing import NamedTuple

from qmptests.vfio.abi.layout import KVM_H, Layout

KVM_DEV_VFIO_FILE = 1
KVM_DEV_VFIO_FILE_ADD = 1
KVM_DEV_VFIO_FILE_DEL = 2


class KvmDeviceAttr(NamedTuple):
    flags: int
    group: int
    attr: int
    addr: int


KVM_DEVICE_ATTR = Layout(KvmDeviceAttr, "struct kvm_device_attr", KVM_H, "IIQQ")
