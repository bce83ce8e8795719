"""Rules of a script as people write them: a `[[vfio.when]]` table, or one line.

```toml
[[vfio.when]]
call = "set-state:stop-copy"
do = "errno=EIO"
nth = 2
in = ["pre-copy-p2p"]
```

The same in one line, for a command line: `set-state:stop-copy+errno=EIO+nth=2+in=pre-copy-p2p`, the
call first, then what to do, then what of the other keys is wanted, `in` once for each state.
"""

import difflib
import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec

from qmptests.errors import InputError
from qmptests.units import format_size, parse_duration, parse_size
from qmptests.vfio import abi, script, words
from qmptests.vfio.spec import Rule

#: A size as in `units`, or bytes.
Size = str | int

#: What QEMU reads, a device has, and its stream is made of: 4 KiB.
BLOCK = 4096
#: More than this no device has: a stream is kept in memory on the destination.
MOST_BYTES = 1 << 40
#: More than this none can say it has (struct vfio_device_feature_mig_data_size, linux/vfio.h).
MOST_ANNOUNCED = (1 << 64) - 1

SIDES = ("", "source", "destination")
STATES = tuple(map(words.state_word, abi.State))
_IRQS = tuple(str(words.irq_word(irq)) for irq in abi.Irq)
_ACTIONS = tuple(
    str(words.action_word(flag)) for flag in abi.IrqSetFlag if "ACTION" in str(flag.name)
)
_REGIONS = tuple(str(words.region_word(region)) for region in abi.Region)
_FEATURES = tuple(str(words.feature_word(feature)) for feature in abi.Feature)

#: The calls that a device is told of, with the words that can follow a ":"; without, a number can.
CALLS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bind", "attach", "detach", "device-info"), ()),
    "region-info": _REGIONS,
    "irq-info": _IRQS,
    "set-irqs": (*_IRQS, *_ACTIONS),
    **dict.fromkeys(("reset", "hot-reset-info", "hot-reset", "migration-flags"), ()),
    "set-state": STATES,
    **dict.fromkeys(("get-state", "data-size", "precopy-info-v2"), ()),
    **dict.fromkeys(("dma-start", "dma-stop", "dma-report"), ()),
    "dma-buf": _REGIONS,
    "probe": _FEATURES,
    "precopy-info": ("final",),
    **dict.fromkeys(("feature", "read", "write"), ()),
    **dict.fromkeys(("config-write", "bar-write", "kvm-file-add", "kvm-file-del"), ()),
    **dict.fromkeys(("ioas-alloc", "ioas-iova-ranges", "ioas-map", "ioas-map-file"), ()),
    **dict.fromkeys(("ioas-unmap", "ioas-change-process", "hwpt-alloc", "hw-info"), ()),
    **dict.fromkeys(("set-dirty-tracking", "dirty-bitmap", "destroy"), ()),
    **dict.fromkeys(("ioas-allow-iovas", "ioas-copy", "iommu-option", "vfio-ioas"), ()),
    **dict.fromkeys(("hwpt-invalidate", "viommu-alloc", "vdevice-alloc"), ()),
    **dict.fromkeys(("veventq-alloc", "hw-queue-alloc"), ()),
}

_EXAMPLES = {
    script.ERRNO: "EIO",
    script.SECONDS: "50ms",
    script.BYTES: "16M",
    script.NUMBER: "1",
}


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """At which call what happens; the fields are those of `spec.Rule`, in a person's words.

    `side`: where the rule holds, if the profile is on both.
    """

    call: str
    do: str
    nth: int = 1
    times: int = 1
    after_bytes: Size = 0
    after: str = "0s"
    in_: list[str] = msgspec.field(default_factory=list, name="in")
    side: str = ""

    def line(self) -> str:
        """The rule in one line, as `parse` reads it."""
        rest = msgspec.to_builtins(self)
        states = rest.pop("in", [])
        parts = [rest.pop("call"), rest.pop("do"), *(f"{k}={v}" for k, v in rest.items())]
        return "+".join([*parts, *(f"in={state}" for state in states)])

    def rule(self) -> Rule:
        """For the device; raises InputError with the key."""
        with keyed("call"):
            check_call(self.call)
        with keyed("do"):
            do, value = _parse_do(self.do)
        if self.side not in SIDES:
            raise InputError(f"side: {unknown('side', self.side, SIDES[1:])}")
        for state in self.in_:
            if state not in STATES:
                raise InputError(f"in: {unknown('state', state, STATES)}")
        if self.nth < 1 or self.times < 0:
            raise InputError("nth counts from 1, times from 0 (for ever)")
        if do in script.OF_READS and self.call.partition(":")[0] != "read":
            raise InputError(f"do: '{do}' is done to the data of a read, not at '{self.call}'")
        with keyed("after_bytes"):
            after_bytes = size(self.after_bytes, block=1)
        with keyed("after"):
            after_s = parse_duration(self.after)
        return Rule(
            on=self.call,
            do=do,
            nth=self.nth,
            times=self.times,
            after_bytes=after_bytes,
            after_s=after_s,
            states=tuple(self.in_),
            value=value,
            words=self.line(),
        )


def parse(text: str) -> When:
    """The rule that one line means; raises InputError with the line."""
    call, _, rest = text.partition("+")
    do, *options = rest.split("+")
    if not call or not do:
        raise InputError(f"'{text}' is not CALL+DO, such as set-state:stop-copy+errno=EIO")
    fields: dict[str, object] = {"call": call, "do": do}
    states = []
    known = [field.encode_name for field in msgspec.structs.fields(When)][2:]
    for option in options:
        key, _, value = option.partition("=")
        if key not in known:
            raise InputError(f"'{text}': {unknown('key', key, known)}")
        if key == "in":
            states.append(value)
        elif key in ("nth", "times"):
            with keyed(f"'{text}': {key}"):
                fields[key] = number(value)
        else:
            fields[key] = value
    return msgspec.convert({**fields, "in": states}, When)


def check_call(text: str) -> None:
    """Raise InputError if this is no call's name, with or without a ":" and one of its words."""
    name, colon, word = text.partition(":")
    if name not in CALLS:
        raise InputError(unknown("call", name, CALLS))
    if not colon:
        return
    if CALLS[name] and word not in CALLS[name]:
        raise InputError(f"'{text}': {unknown('word', word, CALLS[name])}")
    if not CALLS[name] and not word.isdecimal():
        raise InputError(f"'{text}': only a number can follow '{name}:'")


def size(value: Size, *, block: int = BLOCK, most: int = MOST_BYTES) -> int:
    """Bytes; raises InputError for what is not a size, no multiple of `block`, or too much."""
    found = parse_size(value) if isinstance(value, str) else value
    if found < 0 or found > most:
        raise InputError(f"{value} is impossible: a size is from 0 to {format_size(most)}")
    if found % block:
        raise InputError(f"{value} is not a multiple of {block} bytes")
    return found


def number(text: str) -> int:
    """A number in plain digits; raises InputError."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 6:
        raise InputError(f"'{text}' is not a number from 0 to 999999")
    return int(text)


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """That there is no such name, and which is nearest, or what there is."""
    near = difflib.get_close_matches(name, known, 3)
    hint = f"near it: {', '.join(near)}" if near else f"there are {', '.join(known)}"
    return f"unknown {what} '{name}'; {hint}"


@contextmanager
def keyed(key: str, separator: str = ": ") -> Iterator[None]:
    """Put a key's name before the text of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}{separator}{error}") from error


def _parse_do(text: str) -> tuple[str, float]:
    do, equals, value = text.partition("=")
    if do not in script.DO:
        raise InputError(unknown("action", do, script.DO))
    kind = script.DO[do]
    if kind == script.NOTHING:
        if equals:
            raise InputError(f"'{do}' takes no value")
        return do, 0
    if not value:
        raise InputError(f"'{do}' needs a value, such as {do}={_EXAMPLES[kind]}")
    with keyed(do):
        return do, _value(kind, value)


def _value(kind: str, text: str) -> float:
    if kind == script.SECONDS:
        return parse_duration(text)
    if kind == script.BYTES:
        return size(text)
    if kind == script.NUMBER:
        return number(text)
    names = {name: number for number, name in errno.errorcode.items()}
    if text.isascii() and text.isdecimal() and int(text[:6]) in errno.errorcode:
        return int(text)
    if text not in names:
        raise InputError(unknown("errno", text, sorted(names)))
    return names[text]
