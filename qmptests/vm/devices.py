"""Device profiles: what a TOML file in `vms/devices/` adds to any VM.

```toml
description = "one line"
devices = ["virtio-net-pci,netdev=net{n}"]                # -device options, as QEMU takes them
args = ["-netdev", "hubport,id=net{n},hubid={n}"]         # what they need besides

[vfio]                                                    # an emulated device: see vfio.profile
stop_copy = "64M"
```

`{n}` is the profile's place in the VM's list, from 0: it keeps the ids of two profiles apart.
"""

from collections.abc import Iterable

import msgspec

from qmptests import toml
from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.vfio import profile as vfio_profile
from qmptests.vfio.profile import VfioProfile
from qmptests.vfio.when import keyed
from qmptests.vm import dialect, lookup

_PACKAGE = "qmptests.vms.devices"

#: What an emulated device is in QEMU.
VFIO_DRIVER = "vfio-pci"
#: Emulated devices that one VM can have.
MOST_VFIO = 8


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices that a VM gets on both sides, whatever else it is made of.

    `vfio`: one that is emulated. Its `-device` needs descriptors, so `arguments` leaves it out.
    """

    devices: list[str] = []
    args: list[str] = []
    vfio: VfioProfile | None = None
    description: str = ""
    name: str = ""

    @property
    def drivers(self) -> list[str]:
        """The devices' types: what a build must have."""
        emulated = [VFIO_DRIVER] if self.vfio else []
        return [*(device.partition(",")[0] for device in self.devices), *emulated]

    def arguments(self, number: int) -> list[str]:
        """What the command line gets, the profile being the VM's `number`th, from 0."""
        options = [word for device in self.devices for word in ("-device", device)]
        return [word.replace("{n}", str(number)) for word in (*options, *self.args)]


def shipped(*, vfio: bool | None = None) -> list[str]:
    """The names of the profiles that come with qmptests: all, or those with or without VFIO."""
    names = lookup.names(_PACKAGE)
    return [n for n in names if vfio is None or (load(n).vfio is not None) is vfio]


def load(text: str) -> DeviceProfile:
    """The profile that `NAME[,KEY=VALUE...]` means: a shipped one, or one's own by its path.

    The keys go to the emulated device, or else to the first of the devices. Raises InputError.
    """
    name_or_path, comma, options = text.partition(",")
    source = lookup.read(name_or_path, _PACKAGE, "device profile")
    profile = parse(source.text, source.where, source.name)
    if not comma:
        return profile
    where = f"device '{text}'"
    pairs = []
    for option in options.replace(",,", "\0").split(","):
        key, equals, value = option.replace("\0", ",").partition("=")
        if not key or not equals:
            raise InputError(f"{where}: '{option}' is not KEY=VALUE")
        pairs.append((key, value))
    name = f"{profile.name},{options}"
    if profile.vfio:
        vfio = vfio_profile.override(profile.vfio, pairs, where)
        return msgspec.structs.replace(profile, name=name, vfio=vfio)
    first, *rest = profile.devices
    return msgspec.structs.replace(profile, name=name, devices=[f"{first},{options}", *rest])


def lacks(build: Build, profile: DeviceProfile) -> str:
    """What `build` lacks for a profile: "no device 'e1000e'"; "" for nothing."""
    for driver in profile.drivers:
        if not build.facts.has_device(driver):
            return f"no device '{driver}'"
    if profile.vfio and not dialect.has(build.facts.version, dialect.Feature.VFIO_FD):
        return f"no {VFIO_DRIVER} with fd= (QEMU 9.0)"
    return ""


def check(build: Build, side: str, profiles: Iterable[DeviceProfile]) -> None:
    """Raise InputError for a device that `build` does not have, or too many emulated ones."""
    profiles = list(profiles)
    for profile in profiles:
        if lacking := lacks(build, profile):
            raise InputError(
                f"the {side} {build.name} ({build.spec}) has {lacking}, "
                f"which device profile '{profile.name}' needs"
            )
    emulated = sum(profile.vfio is not None for profile in profiles)
    if emulated > MOST_VFIO:
        raise InputError(
            f"too many devices: the {side} has {emulated} emulated ones, {MOST_VFIO} is the most"
        )


def parse(text: str, where: str, name: str) -> DeviceProfile:
    """A profile from TOML text; `where` names it in errors."""
    table = toml.parse(text, where)
    if isinstance(vfio := table.get("vfio"), dict):
        with keyed(where):
            vfio_profile.check_keys(vfio)
    profile = toml.structure({"name": name, **table}, where, DeviceProfile)
    if not all(profile.drivers):
        raise InputError(f"{where}: devices: each is a -device option")
    if not profile.drivers:
        raise InputError(f"{where}: neither devices nor [vfio]: there is nothing to add")
    return profile
