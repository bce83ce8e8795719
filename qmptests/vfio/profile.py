"""What a person writes of an emulated device: the table `[vfio]` of a device profile.

```toml
[vfio]
initial = "32M"                # sizes as everywhere, rates in bytes a second
stop_copy = "64M"
dirty_tracking = "iommu"
bars = ["64K", "1M,no-mmap", "1G,64-bit,prefetchable"]
latency = {"set-state:stop-copy" = "20ms", "data-size" = "1ms"}
device_options = "migration-events=on"

[[vfio.when]]                  # see `when`
call = "read"
do = "errno=EIO"
after_bytes = "8M"
```

On a command line each key is `KEY=VALUE`. What is a list or a table in TOML is joined by "+" there,
with a comma doubled: `bars=64K+1M,,no-mmap`, `latency=data-size=1ms+read=2ms`; `when=` adds a rule
(`when=read+errno=EIO+after_bytes=8M`) and may come more than once; so may a property of vfio-pci
(`addr=0a.0`, `enable-migration=on`, or any `x-...`), which goes to `device_options`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from qmptests import toml
from qmptests.errors import InputError
from qmptests.units import format_size, parse_duration
from qmptests.vfio import descriptors, when
from qmptests.vfio.abi import MigrationFlag
from qmptests.vfio.pci import msix_place
from qmptests.vfio.script import DMA
from qmptests.vfio.spec import DEVICE_TRACKING, IOMMU_TRACKING, NO_TRACKING, Bar, Rule, Spec
from qmptests.vfio.when import BLOCK, MOST_ANNOUNCED, Size, When, keyed, size

#: Slots for BARs in a PCI header; a 64-bit one takes two.
BAR_SLOTS = 6
#: The most that MSI-X can count.
MOST_VECTORS = 2048

#: A page for each device that a VM can have; and the most that a report of them has room for.
WINDOW_UNIT = BLOCK * descriptors.MOST
MOST_WINDOW = 64 << 20

_BAR_WORDS = ("no-mmap", "64-bit", "prefetchable")
_DEVICE_OPTIONS = (
    *("addr", "bus", "multifunction", "rombar", "romfile", "acpi-index", "display"),
    *("enable-migration", "migration-events"),
)
#: They say which device it is, and are not a person's to choose.
_TAKEN = ("id", "fd", "iommufd", "host", "sysfsdev", "driver")
_TRACKING = (DEVICE_TRACKING, IOMMU_TRACKING, NO_TRACKING)
_SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


class VfioProfile(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """An emulated device, in a person's words; `to_spec` has them in numbers.

    Raises InputError with the key's path for values that no device can have.
    """

    initial: Size = 0
    dirty: Size = 0
    dirty_rate: Size = 0
    dirty_limit: Size | None = None
    stop_copy: Size = BLOCK
    late: Size = 0
    late_after: Size = 0
    late_times: int = 1
    late_at_stop: bool = False
    reinit: bool = True
    precopy: bool = True
    p2p: bool = True
    migration: bool = True
    dirty_tracking: str = DEVICE_TRACKING
    read_bandwidth: Size = 0
    write_bandwidth: Size = 0
    watch_writes: bool = False
    stale_info: bool = False
    dry_is_eof: bool = False
    refuse_at_write: bool = False
    announce: Size | None = None
    bars: list[str] = msgspec.field(default_factory=lambda: ["64K"])
    msix: int = 4
    msix_mappable: bool = True
    dma_buf: bool = True
    intx: bool = True
    latency: dict[str, str] = {}
    dma_window: str = "64M+32M"
    when: list[When] = []
    plugged: bool = True
    device_options: str = ""

    def __post_init__(self) -> None:
        with keyed("vfio", "."):
            to_spec(self, "", 0)

    @property
    def stop_copy_bytes(self) -> int:
        """What it has to send while the guest is stopped, at least."""
        return size(self.stop_copy, block=BLOCK)


def to_spec(
    profile: VfioProfile, name: str, seed: int, *, profile_name: str = "", side: str = ""
) -> Spec:
    """The device `name`, with data made from `seed`, on that side ("": with rules of both).

    Raises InputError with the key.
    """
    _check(profile)
    flags = MigrationFlag(0)
    if profile.migration:
        flags |= MigrationFlag.STOP_COPY
        flags |= MigrationFlag.P2P if profile.p2p else 0
        flags |= MigrationFlag.PRE_COPY if profile.precopy else 0
    dirty_rate = _bytes(profile, "dirty_rate", block=1)
    # What QEMU doesn't fetch does not pile up for ever: by default a second's worth of it.
    limit = "dirty_rate" if profile.dirty_limit is None else "dirty_limit"
    spec = Spec(
        name=name,
        profile=profile_name,
        seed=seed,
        migration=int(flags),
        precopy_v2=profile.reinit,
        dirty_tracking=profile.dirty_tracking,
        initial_bytes=_bytes(profile, "initial"),
        dirty_bytes=_bytes(profile, "dirty"),
        dirty_rate=dirty_rate,
        dirty_limit=_bytes(profile, limit, block=1) // BLOCK * BLOCK,
        stop_copy=_bytes(profile, "stop_copy"),
        late_bytes=_bytes(profile, "late"),
        late_after=_bytes(profile, "late_after", block=1),
        late_times=profile.late_times,
        late_at_stop=profile.late_at_stop,
        announce=_announced(profile),
        read_bandwidth=_bytes(profile, "read_bandwidth", block=1),
        write_bandwidth=_bytes(profile, "write_bandwidth", block=1),
        watch_writes=profile.watch_writes,
        stale_info=profile.stale_info,
        dry_is_eof=profile.dry_is_eof,
        refuse_at_write=profile.refuse_at_write,
        msix_mappable=profile.msix_mappable,
        dma_buf=profile.dma_buf,
        latency=tuple(_latency(profile.latency)),
        dma_window=_window(profile.dma_window),
        rules=tuple(_rules(profile, side)),
        bars=_bars(profile.bars),
        msix_vectors=profile.msix,
        intx=profile.intx,
    )
    if spec.msix_vectors:
        try:
            msix_place(spec)
        except ValueError as error:
            raise InputError(f"msix: {error}") from error
    return spec


def override(profile: VfioProfile, options: Iterable[tuple[str, str]], where: str) -> VfioProfile:
    """The profile with `KEY=VALUE` pairs of a command line, which `where` names in errors.

    Raises InputError.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(VfioProfile)}
    table: dict[str, Any] = msgspec.to_builtins(profile)
    with keyed(where):
        for key, value in options:
            if key in _DEVICE_OPTIONS or key.startswith("x-"):
                given = table.get("device_options", "")
                option = f"{key}={value.replace(',', ',,')}"
                table["device_options"] = f"{given},{option}" if given else option
            elif key not in types:
                raise InputError(when.unknown("key", key, (*types, *_DEVICE_OPTIONS)))
            elif key == "when":
                with keyed("when"):
                    rule = when.parse(value)
                table["when"] = [*table.get("when", []), msgspec.to_builtins(rule)]
            else:
                table[key] = _of_text(key, value, types[key])
    return toml.structure(table, where, VfioProfile)


def check_keys(table: Mapping[str, Any]) -> None:
    """Raise InputError for a key of `[vfio]` or `[[vfio.when]]` that there isn't, with the nearest.

    Values are not looked at.
    """
    _check_names("vfio", table, VfioProfile)
    rules = table.get("when")
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, Mapping):
            _check_names(f"vfio.when[{number}]", rule, When)


def _check_names(where: str, table: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for key in table:
        if key not in known:
            raise InputError(f"{where}: {when.unknown('key', key, known)}")


def _check(profile: VfioProfile) -> None:
    """What can be said of a value by itself, or of two together."""
    if profile.dirty_tracking not in _TRACKING:
        said = when.unknown("word", profile.dirty_tracking, _TRACKING)
        raise InputError(f"dirty_tracking: {said}")
    if _bytes(profile, "stop_copy") < BLOCK:
        raise InputError(f"stop_copy: {profile.stop_copy} has no room for the stream's end: 4K")
    if profile.late_times < 1:
        raise InputError(f"late_times: {profile.late_times} is not a number from 1")
    if not 0 <= profile.msix <= MOST_VECTORS:
        raise InputError(f"msix: {profile.msix} is not a number from 0 to {MOST_VECTORS}")
    flows = _bytes(profile, "dirty_rate", block=1) or profile.when
    if profile.precopy and _bytes(profile, "late") and not flows and not profile.late_at_stop:
        first = _bytes(profile, "initial") + _bytes(profile, "dirty")
        if _bytes(profile, "late_after", block=1) > first:
            raise InputError(
                f"late_after: {profile.late_after} are never read: "
                f"initial and dirty are {format_size(first)} together"
            )
    for option in profile.device_options.replace(",,", "").split(","):
        if (key := option.partition("=")[0]) in _TAKEN:
            raise InputError(f"device_options: '{key}' is set by qmptests")


def _bytes(profile: VfioProfile, key: str, *, block: int = BLOCK) -> int:
    with keyed(key):
        return size(getattr(profile, key), block=block)


def _announced(profile: VfioProfile) -> int:
    if profile.announce is None:
        return -1
    with keyed("announce"):
        return size(profile.announce, block=1, most=MOST_ANNOUNCED)


def _bars(texts: list[str]) -> tuple[Bar, ...]:
    bars = []
    slot = 0
    for number, text in enumerate(texts):
        with keyed(f"bars[{number}]"):
            length, *words = (part.strip() for part in text.split(","))
            for word in words:
                if word not in _BAR_WORDS:
                    raise InputError(when.unknown("word", word, _BAR_WORDS))
            found = size(length)
            wide = "64-bit" in words
            if found < BLOCK or found & (found - 1):
                raise InputError(f"{length} is not a power of two from 4K on")
            if found > 2 << 30 and not wide:
                raise InputError(f"{length} is more than a 32-bit BAR can have: add ',64-bit'")
            bars.append(Bar(slot, found, "no-mmap" not in words, wide, "prefetchable" in words))
            slot += 2 if wide else 1
    if slot > BAR_SLOTS:
        raise InputError(f"bars: they take {slot} of {BAR_SLOTS} slots (a 64-bit one takes two)")
    return tuple(bars)


def _latency(times: Mapping[str, str]) -> Iterable[tuple[str, float]]:
    for call, text in times.items():
        with keyed("latency"):
            when.check_call(call)
            with keyed(call):
                yield call, parse_duration(text)


def _window(text: str) -> tuple[int, int]:
    """Where the VM's devices write to memory: first address and size."""
    with keyed("dma_window"):
        start, plus, length = text.partition("+")
        if not plus:
            raise InputError(f"'{text}' is not START+SIZE, such as 64M+32M")
        found = size(start), size(length, block=WINDOW_UNIT)
        if not WINDOW_UNIT <= found[1] <= MOST_WINDOW:
            raise InputError(f"{length} is not a size from 32K to {format_size(MOST_WINDOW)}")
        return found


def _rules(profile: VfioProfile, side: str) -> Iterable[Rule]:
    for number, wanted in enumerate(profile.when):
        with keyed(f"when[{number}]", "."):
            rule = wanted.rule()
            if rule.do == "interrupt" and rule.value >= max(profile.msix, 1):
                raise InputError(f"do: the device has no vector {rule.value:g}")
            room = _window(profile.dma_window)[1] // WINDOW_UNIT
            if rule.do in DMA and not 0 < rule.value <= room:
                raise InputError(f"do: its part of dma_window has {room} pages, not {rule.value:g}")
        if not side or wanted.side in ("", side):
            yield rule


def _of_text(key: str, text: str, kind: Any) -> Any:
    """What `text` on a command line means for a key of this type."""
    if kind is bool:
        if text not in _SWITCH:
            raise InputError(f"vfio.{key}: '{text}' is neither on nor off")
        return _SWITCH[text]
    if kind is int:
        with keyed(f"vfio.{key}"):
            return when.number(text)
    if key == "bars":
        return text.split("+") if text else []
    if key == "latency":
        pairs = (part.rpartition("=") for part in text.split("+"))
        return {call: time for call, _, time in pairs}
    return text
