"""The descriptor numbers that QEMU sees its devices on. They are part of the filter.

High enough that QEMU, which takes the lowest free ones, never gets there by itself.
"""

#: The iommufd that all devices share.
IOMMUFD = 200
_DEVICES = 201
_DATA = 220
#: Devices in one VM.
MOST = 8


def device(number: int) -> int:
    """The descriptor of the VM's `number`th device, from 0."""
    return _DEVICES + number


def data(number: int, turn: int) -> int:
    """A migration data descriptor of that device; two take turns, as an old one may be open."""
    return _DATA + 2 * number + turn % 2


def device_of(descriptor: int) -> int:
    """The number of the device that a device's or a data descriptor belongs to, or -1."""
    if _DEVICES <= descriptor < _DEVICES + MOST:
        return descriptor - _DEVICES
    if _DATA <= descriptor < _DATA + 2 * MOST:
        return (descriptor - _DATA) // 2
    return -1


def is_data(descriptor: int) -> bool:
    """Whether that is the number of a data descriptor."""
    return _DATA <= descriptor < _DATA + 2 * MOST


#: First and last of the devices' descriptors, and of the data descriptors.
DEVICES = (device(0), device(MOST - 1))
DATA = (data(0, 0), data(MOST - 1, 1))
