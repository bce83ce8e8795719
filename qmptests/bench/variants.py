"""The two sides of the comparison: with REINIT, and four ways of being without."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import msgspec

from qmptests.bench.setting import Setting
from qmptests.migration import Plan

#: The last machine type with the legacy mechanism of acks (QEMU's hw_compat_11_0).
LEGACY_MACHINE = "pc-q35-11.0"
_LEGACY_PROPERTY = ("-global", "migration.switchover-ack-legacy=on")


class Variant(NamedTuple):
    """One way to run a setting; `plan` makes its migration."""

    name: str
    what: str
    plan: Callable[[Setting], Plan]


def _without_infov2(setting: Setting) -> Plan:
    devices = []
    for profile in setting.plan().devices:
        assert profile.vfio
        vfio = msgspec.structs.replace(profile.vfio, reinit=False)
        devices.append(msgspec.structs.replace(profile, vfio=vfio))
    return setting.plan(devices=tuple(devices))


def _legacy_machine(setting: Setting) -> Plan:
    return setting.plan(machine=LEGACY_MACHINE)


def _capability_off(setting: Setting) -> Plan:
    plan = setting.plan()
    return replace(plan, capabilities={**plan.capabilities, "switchover-ack": False})


def _legacy_property(setting: Setting) -> Plan:
    return setting.plan(source_args=_LEGACY_PROPERTY, destination_args=_LEGACY_PROPERTY)


#: Only what the device answers to MIG_PRECOPY_INFOv2, or what QEMU makes of it, differs.
WITH = Variant("reinit", "REINIT, as 11.1 has it", Setting.plan)
WITHOUT = (
    Variant("no-infov2", "devices without MIG_PRECOPY_INFOv2", _without_infov2),
    Variant("legacy-machine", f"machine type {LEGACY_MACHINE}", _legacy_machine),
    Variant("capability-off", "capability switchover-ack off", _capability_off),
    Variant("legacy-property", "migration.switchover-ack-legacy=on", _legacy_property),
)
ALL = (WITH, *WITHOUT)
