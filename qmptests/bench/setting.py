"""All that goes into a migration of the bench: builds, VM, devices, parameters."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.migration import Plan, settings
from qmptests.units import format_size, parse_duration
from qmptests.vfio import profile
from qmptests.vfio.spec import Spec
from qmptests.vm import definition as definitions
from qmptests.vm import devices
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile

BUSY, IDLE, VM = "series-busy", "series-idle", "series"
#: The busy one is the VM's first.
BUSY_NAME = "vf0"
#: The changes of state within downtime, in their order.
ARCS = tuple(f"set-state:{s}" for s in ("pre-copy-p2p", "stop-copy", "running-p2p", "running"))
#: What a build traces that lets devices ask for an ack again.
REUSABLE = "vfio_query_precopy_size_request_switchover_ack"
CAPABILITIES = {"return-path": True, "switchover-ack": True}


@dataclass(frozen=True)
class Setting:
    """One busy device and `idle_count` idle ones; the first build migrates to the second.

    `switchover_bandwidth`: avail-switchover-bandwidth, bytes a second. `downtime_limit`:
    milliseconds. `late_in_precopy`: whether late data appears while the guest runs.
    """

    source: Build
    destination: Build
    definition: Definition = field(default_factory=lambda: definitions.load(VM))
    busy: DeviceProfile = field(default_factory=lambda: devices.load(BUSY))
    idle: DeviceProfile = field(default_factory=lambda: devices.load(IDLE))
    idle_count: int = 3
    switchover_bandwidth: int = 8 << 30
    max_bandwidth: int = 8 << 30
    downtime_limit: int = settings.DOWNTIME_LIMIT_MS
    multifd: bool = False
    accelerator: str = "tcg"
    timeout_s: float = 60.0

    def check(self) -> None:
        """Raise InputError if a build has no acks that can be asked for again."""
        for side, build in (("source", self.source), ("destination", self.destination)):
            if REUSABLE not in build.facts.trace_events:
                raise InputError(
                    f"the {side} {build.name} has no switchover-ack that can be asked for again "
                    f"(no trace event {REUSABLE}): QEMU 11.1 or later has"
                )
        self.plan().check()

    @property
    def spec(self) -> Spec:
        """The busy device in numbers."""
        assert self.busy.vfio
        return profile.to_spec(self.busy.vfio, BUSY_NAME, 0)

    @property
    def arcs_ms(self) -> tuple[float, ...]:
        """What the devices' changes of state take within downtime, one device after the other."""
        each = []
        for device in (self.busy, *[self.idle] * self.idle_count):
            latency = device.vfio.latency if device.vfio else {}
            each.append(sum(parse_duration(latency.get(arc, "0s")) for arc in ARCS) * 1e3)
        return tuple(each)

    @property
    def threshold(self) -> int:
        """Bytes that fit into the limit: QEMU switches over when no more is left."""
        return self.switchover_bandwidth * self.downtime_limit // 1000

    def with_busy(self, **keys: Any) -> "Setting":
        """The same with other keys of the busy device."""
        assert self.busy.vfio
        vfio = msgspec.structs.replace(self.busy.vfio, **keys)
        return replace(self, busy=msgspec.structs.replace(self.busy, vfio=vfio))

    def plan(self, **changes: Any) -> Plan:
        """The migration; `changes` are fields of `Plan`."""
        parameters: dict[str, settings.Value] = {
            "avail-switchover-bandwidth": self.switchover_bandwidth,
            "max-bandwidth": self.max_bandwidth,
            "downtime-limit": self.downtime_limit,
        }
        capabilities = CAPABILITIES | ({"multifd": True} if self.multifd else {})
        plan = Plan(
            source=self.source,
            destination=self.destination,
            definition=self.definition,
            devices=(self.busy, *[self.idle] * self.idle_count),
            accelerator=self.accelerator,
            capabilities=capabilities,
            parameters=parameters,
            timeout_s=self.timeout_s,
        )
        return replace(plan, **changes)

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Everything that the figures depend on, in words."""
        spec, vm = self.spec, self.definition
        yield "builds", f"{self.source.name} -> {self.destination.name}"
        yield "VM", f"{vm.memory} RAM, {_guest(vm)}, {self.accelerator}"
        yield "devices", f"1 busy, {self.idle_count} idle"
        for name, device in (("busy", self.busy), ("idle", self.idle)):
            latency = device.vfio.latency if device.vfio else {}
            arcs = " + ".join(latency.get(arc, "0ms") for arc in ARCS)
            yield f"{name} arcs", f"{arcs} (P2P, stop-copy, running-P2P, running)"
        yield "initial", format_size(spec.initial_bytes)
        yield "late data", _late(spec)
        yield "uncopyable", f"{format_size(spec.stop_copy)} (fitted)"
        yield "announced", "unread initial + dirty + uncopyable (MIG_DATA_SIZE)"
        yield "read rate", f"{_rate(spec.read_bandwidth)} in precopy and in stop-copy"
        yield "load rate", _rate(spec.write_bandwidth)
        yield (
            "threshold",
            (
                f"{format_size(self.switchover_bandwidth)}/s x {self.downtime_limit} ms = "
                f"{self.threshold / (1 << 20):.0f} MiB"
            ),
        )
        yield "bandwidth", f"{format_size(self.max_bandwidth)}/s at most (max-bandwidth)"
        yield "multifd", "on" if self.multifd else "off"


def _guest(definition: Definition) -> str:
    guest = definition.guest
    if "length" not in guest:
        return "no guest program"
    return f"{guest['length']} written over and over at {guest.get('rate', 'full speed')}/s"


def _late(spec: Spec) -> str:
    if not spec.late_bytes:
        return "none"
    times = f"{spec.late_times} x " if spec.late_times > 1 else ""
    late, after = format_size(spec.late_bytes), format_size(spec.late_after)
    text = f"{times}{late} once {after} have been read"
    return f"{text}, or at the VM's stop" if spec.late_at_stop else text


def _rate(count: int) -> str:
    return f"{count / 1e6:.0f} MB/s" if count else "as fast as it goes"
