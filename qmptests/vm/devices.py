"""Device profiles: what a TOML file in `vms/devices/` adds to any VM.

```toml
description = "one line"
devices = ["virtio-net-pci,netdev=net{n}"]                # -device options, as QEMU takes them
args = ["-netdev", "hubport,id=net{n},hubid={n}"]         # what they need besides
```

`{n}` is the profile's place in the VM's list, from 0: it keeps the ids of two profiles apart.
"""

from collections.abc import Iterable

import msgspec

from qmptests import toml
from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.vm import lookup

_PACKAGE = "qmptests.vms.devices"


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices that a VM gets on both sides, whatever else it is made of."""

    devices: list[str]
    args: list[str] = []
    description: str = ""
    name: str = ""

    @property
    def drivers(self) -> list[str]:
        """The devices' types: what a build must have."""
        return [device.partition(",")[0] for device in self.devices]

    def arguments(self, number: int) -> list[str]:
        """What the command line gets, the profile being the VM's `number`th, from 0."""
        options = [word for device in self.devices for word in ("-device", device)]
        return [word.replace("{n}", str(number)) for word in (*options, *self.args)]


def shipped() -> list[str]:
    """The names of the profiles that come with qmptests."""
    return lookup.names(_PACKAGE)


def load(text: str) -> DeviceProfile:
    """The profile that `NAME[,KEY=VALUE...]` means: a shipped one, or one's own by its path.

    The keys go to the first of its devices. Raises InputError.
    """
    name_or_path, comma, options = text.partition(",")
    source = lookup.read(name_or_path, _PACKAGE, "device profile")
    profile = parse(source.text, source.where, source.name)
    if not comma:
        return profile
    for option in options.replace(",,", "").split(","):
        key, equals, _ = option.partition("=")
        if not key or not equals:
            raise InputError(f"device '{text}': '{option}' is not KEY=VALUE")
    first, *rest = profile.devices
    return msgspec.structs.replace(
        profile, name=f"{profile.name},{options}", devices=[f"{first},{options}", *rest]
    )


def check(build: Build, side: str, profiles: Iterable[DeviceProfile]) -> None:
    """Raise InputError for a device that `build` does not have."""
    for profile in profiles:
        for driver in profile.drivers:
            if not build.facts.has_device(driver):
                raise InputError(
                    f"the {side} {build.name} ({build.spec}) has no device '{driver}', "
                    f"which device profile '{profile.name}' needs"
                )


def parse(text: str, where: str, name: str) -> DeviceProfile:
    """A profile from TOML text; `where` names it in errors."""
    profile = toml.convert(text, where, DeviceProfile, name=name)
    if not all(profile.drivers) or not profile.devices:
        raise InputError(f"{where}: devices: each is a -device option, and there is one at least")
    return profile
