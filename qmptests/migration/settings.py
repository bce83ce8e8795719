"""Capabilities and parameters: checked against what a build has, and set where they belong.

Most must be the same on both sides. Those in the tables below act on one side only; a build that
lacks one where it has no effect is no reason to refuse a migration. Source: qapi/migration.json,
which documents each.
"""

import re
from collections.abc import Iterable, Mapping

from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.units import parse_size

Value = bool | int | str

#: QEMU's default for downtime-limit.
DOWNTIME_LIMIT_MS = 300
SWITCHOVER_BANDWIDTH = "avail-switchover-bandwidth"
#: Whoever says one of these has thought about when QEMU switches over.
CONVERGENCE = frozenset({SWITCHOVER_BANDWIDTH, "downtime-limit", "max-bandwidth"})

SOURCE_ONLY_CAPABILITIES = frozenset(
    {
        "auto-converge",
        "background-snapshot",
        "block",
        "dirty-limit",
        "pause-before-switchover",
        "release-ram",
        "zero-blocks",
        "zero-copy-send",
    }
)
DESTINATION_ONLY_CAPABILITIES = frozenset({"late-block-activate", "postcopy-blocktime"})
SOURCE_ONLY_PARAMETERS = frozenset(
    {
        SWITCHOVER_BANDWIDTH,
        "block-incremental",
        "compress-level",
        "compress-threads",
        "compress-wait-thread",
        "cpu-throttle-increment",
        "cpu-throttle-initial",
        "cpu-throttle-tailslow",
        "downtime-limit",
        "max-bandwidth",
        "max-cpu-throttle",
        "max-postcopy-bandwidth",
        "multifd-qatzip-level",
        "multifd-zlib-level",
        "multifd-zstd-level",
        "throttle-trigger-threshold",
        "vcpu-dirty-limit",
        "x-checkpoint-delay",
        "x-vcpu-dirty-limit-period",
        "zero-page-detection",
    }
)
DESTINATION_ONLY_PARAMETERS = frozenset(
    {
        "announce-initial",
        "announce-max",
        "announce-rounds",
        "announce-step",
        "decompress-threads",
    }
)


def for_side(
    wanted: Mapping[str, Value],
    source: bool,
    source_only: frozenset[str],
    dest_only: frozenset[str],
) -> dict[str, Value]:
    """Those of `wanted` that have an effect on that side."""
    elsewhere = dest_only if source else source_only
    return {name: value for name, value in wanted.items() if name not in elsewhere}


def capabilities_for(wanted: Mapping[str, bool], *, source: bool) -> dict[str, bool]:
    """`events` is always on: the run is driven by them."""
    chosen = for_side(wanted, source, SOURCE_ONLY_CAPABILITIES, DESTINATION_ONLY_CAPABILITIES)
    return {"events": True, **{name: bool(on) for name, on in chosen.items()}}


def switchover_bandwidth(stop_copy: int) -> int:
    """Bytes a second at which twice that many bytes, and 64 MiB, take QEMU's downtime-limit."""
    return (2 * stop_copy + (64 << 20)) * 1000 // DOWNTIME_LIMIT_MS


def parameters_for(wanted: Mapping[str, Value], *, source: bool) -> dict[str, Value]:
    return for_side(wanted, source, SOURCE_ONLY_PARAMETERS, DESTINATION_ONLY_PARAMETERS)


def check(build: Build, side: str, kind: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise InputError for a name that `build` does not know, with the nearest that it does."""
    names = set(known)
    for name in wanted:
        if name not in names:
            hint = _nearest(name, names)
            raise InputError(
                f"the {side} {build.name} ({build.spec}) has no migration {kind} '{name}'{hint}"
            )


def _nearest(name: str, names: set[str]) -> str:
    import difflib  # noqa: PLC0415 - only for an error

    close = difflib.get_close_matches(name, names, n=1)
    return f": did you mean '{close[0]}'?" if close else ""


def parse_assignment(text: str) -> tuple[str, Value]:
    """`name=value` from a command line; sizes may have a suffix (`max-bandwidth=1G`)."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InputError(f"'{text}' is not NAME=VALUE")
    if value in {"on", "true", "yes"}:
        return name, True
    if value in {"off", "false", "no"}:
        return name, False
    if re.fullmatch(r"\d+(\.\d+)?[KMGTkmgt]?", value):
        return name, parse_size(value)
    return name, value


def parse_capability(text: str) -> tuple[str, bool]:
    """`name`, or `name=on|off`."""
    if "=" not in text:
        return text, True
    name, value = parse_assignment(text)
    if not isinstance(value, bool):
        raise InputError(f"capability '{text}': on or off, not '{value}'")
    return name, value
