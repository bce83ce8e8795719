"""Which device a section of the stream belongs to, from QEMU's command line.

A PCI device's section is called after the device's place: `0000:00:10.0/vfio`; behind bridges each
adds its slot and function (`0000:00:02.0:00.0/vfio`).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from qmptests.vm.devices import VFIO_DRIVER

#: The root buses of machines q35, virt and pc.
_ROOTS = ("", "pcie.0", "pci.0")


def of(argv: Sequence[str]) -> dict[str, str]:
    """Section -> device id, for each VFIO device with a place that is told."""
    options = [dict(_pairs(value)) for key, value in pairwise(argv) if key == "-device"]
    by_id = {device["id"]: device for device in options if "id" in device}
    found = {}
    for name, device in by_id.items():
        place = _place(device, by_id)
        if place and device.get("driver") == VFIO_DRIVER:
            found[f"{place}/vfio"] = name
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """A -device option, as `driver,key=value,...` or JSON."""
    if text.startswith("{"):
        try:
            fields = msgspec.json.decode(text, type=dict[str, object])
        except msgspec.DecodeError:
            return
        yield from ((key, str(value)) for key, value in fields.items())
        return
    driver, *rest = text.split(",")
    yield "driver", driver
    for pair in rest:
        key, _, value = pair.partition("=")
        yield key, value


def _place(device: dict[str, str], by_id: dict[str, dict[str, str]], depth: int = 8) -> str:
    """The device's place, "" if it can't be told."""
    slot, _, function = device.get("addr", "").partition(".")
    try:
        here = f"{int(slot, 16):02x}.{int(function or '0', 16):x}"
    except ValueError:
        return ""
    bus = device.get("bus", "")
    if bus in _ROOTS:
        return f"0000:00:{here}"
    above = _place(by_id.get(bus, {}), by_id, depth - 1) if depth else ""
    return f"{above}:{here}" if above else ""
