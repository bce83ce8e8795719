"""What a VM is made of, as QEMU says it: compared between the two sides of a migration."""

from typing import Any

from qmptests.migration import Observer, Phase, Run
from qmptests.vm import VM


class Hardware(Observer):
    """Looks at both sides once the VM runs at the destination, the source being stopped.

    Each side: the machine type, bytes of memory, types of CPUs, devices by their QOM path and
    type, PCI functions with their place, ids and regions. Where these are mapped is compared once
    a guest runs: the firmware, which maps them, may be at it while we look.
    """

    def __init__(self) -> None:
        self.source: dict[str, Any] = {}
        self.destination: dict[str, Any] = {}

    async def reached(self, phase: Phase, run: Run) -> None:
        """Look, if the VM has arrived."""
        if phase is Phase.ARRIVED:
            mapped = run.source.guest_console.ready and bool(run.source.guest.ranges)
            self.source = await _look(run.source, mapped)
            self.destination = await _look(run.destination, mapped)


async def _look(vm: VM, mapped: bool) -> dict[str, Any]:
    memory = await vm.execute("query-memory-size-summary")
    cpus = await vm.execute("query-cpus-fast")
    found: dict[str, Any] = {
        "machine": await _type(vm, "/machine"),
        "memory": memory["base-memory"],
        "cpus": [await _type(vm, cpu["qom-path"]) for cpu in cpus],
    }
    for place in ("/machine/peripheral", "/machine/peripheral-anon"):
        for child in await vm.execute("qom-list", {"path": place}):
            if child["type"].startswith("child<"):
                found[f"{place}/{child['name']}"] = child["type"]
    if vm.build.facts.target in ("x86_64", "i386"):
        for bus in await vm.execute("query-pci"):
            found |= _functions(bus, mapped)
    return found


async def _type(vm: VM, path: str) -> Any:
    return await vm.execute("qom-get", {"path": path, "property": "type"})


def _functions(bus: dict[str, Any], mapped: bool) -> dict[str, Any]:
    """The functions of a bus and of those behind its bridges (qapi/pci.json)."""
    found = {}
    for function in bus["devices"]:
        place = f"pci {function['bus']:02x}:{function['slot']:02x}.{function['function']}"
        keys = ("bar", "type", "size", *(["address"] if mapped else []))
        regions = [tuple(region[key] for key in keys) for region in function["regions"]]
        found[place] = (function["class_info"]["class"], function["id"], regions)
        if "pci_bridge" in function:
            found |= _functions(function["pci_bridge"], mapped)
    return found
