"""The part of the kernel's ABI that a seccomp filter is made of; `abi` has it as well.

By itself, because a supervisor needs only this to start its command.
"""

#: Kernel headers' `_IO(';', n)`: VFIO and iommufd share the type (VFIO_TYPE, linux/vfio.h).
IOC_TYPE = ord(";")
#: linux/kvm.h
KVM_SET_DEVICE_ATTR = 0x4018AEE1

# linux/seccomp.h
SET_MODE_FILTER = 1
FILTER_NEW_LISTENER = 1 << 3
FILTER_WAIT_KILLABLE_RECV = 1 << 5
RET_USER_NOTIF = 0x7FC00000
RET_ALLOW = 0x7FFF0000
