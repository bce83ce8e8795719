"""What an emulated device is, in plain numbers: made of a profile, sent to the supervisor as JSON.

Sizes are bytes, times seconds. Nothing is checked here: `profile` does that, where a person can
still be told.
"""

from typing import Any, NamedTuple

from qmptests.vfio.abi import MigrationFlag

#: Who tells QEMU which pages a device wrote.
DEVICE_TRACKING = "device"
IOMMU_TRACKING = "iommu"
NO_TRACKING = "none"


class Bar(NamedTuple):
    """A memory region of the device; `size` is a power of two, at least 4096."""

    index_: int
    size: int
    mmap: bool = True
    wide: bool = False
    prefetchable: bool = False


class Rule(NamedTuple):
    """Something that happens to, or at, a call.

    `on`: a call's name, with ":" and a detail's value where only those are meant, such as
    `set-state:stop-copy`. It applies from the `nth` such call on (from 1), `times` times (0: for
    ever), once `after_bytes` of the device's data have moved and `after_s` have passed since the
    device was first bound, and in one of `states` (none: any). `do`: see `script`.
    """

    on: str
    do: str
    nth: int = 1
    times: int = 1
    after_bytes: int = 0
    after_s: float = 0.0
    states: tuple[str, ...] = ()
    #: Of `do`: an errno, a number of bytes, seconds.
    value: float = 0
    #: The profile's own words for it.
    words: str = ""

    def __str__(self) -> str:
        """What messages call it."""
        return self.words or f"{self.do} at {self.on}"


class Spec(NamedTuple):
    """One device.

    `initial_bytes`, `dirty_bytes`: what there is to read on entering PRE_COPY; `dirty_rate`: what
    comes on top, bytes a second of PRE_COPY, while no more than `dirty_limit` waits; `stop_copy`:
    what can be read in STOP_COPY alone, the last 4 KiB of it the stream's end. All are multiples of
    4 KiB. `late_bytes` appear once, `late_after` bytes of data having been read in PRE_COPY: as
    initial bytes with REINIT where QEMU has opted in, else as dirty bytes; with `late_at_stop` what
    has not appeared by then does so when PRE_COPY is left. `announce`: what
    MIG_DATA_SIZE says instead of the truth (-1: the truth). `read_bandwidth`, `write_bandwidth`:
    bytes a second, 0 for as fast as can be. `watch_writes`: be told of each write even if nothing
    is done about it. `stale_info`: GET_PRECOPY_INFO leaves a field alone that has nothing to say.
    `dry_is_eof`: a read in PRE_COPY that finds nothing gives no bytes instead of ENOMSG.
    `refuse_at_write`: wrong data is refused by the write() that brings it, and not when RESUMING is
    left. `msix_mappable`: all of the BAR with the MSI-X table may be mapped. `dma_buf`: there are
    descriptors for parts of BARs. `latency`: seconds that a
    call takes, by its name, with ":" and a state for one of `set-state`. `dma_window`: first
    address and size of the memory that the VM's devices write to, each an equal part of it.
    """

    name: str
    profile: str = ""
    seed: int = 0
    migration: int = int(MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY)
    precopy_v2: bool = True
    dirty_tracking: str = DEVICE_TRACKING
    initial_bytes: int = 0
    dirty_bytes: int = 0
    dirty_rate: int = 0
    dirty_limit: int = 0
    stop_copy: int = 4096
    late_bytes: int = 0
    late_after: int = 0
    late_times: int = 1
    late_at_stop: bool = False
    announce: int = -1
    read_bandwidth: int = 0
    write_bandwidth: int = 0
    watch_writes: bool = False
    stale_info: bool = False
    dry_is_eof: bool = False
    refuse_at_write: bool = False
    msix_mappable: bool = True
    dma_buf: bool = True
    latency: tuple[tuple[str, float], ...] = ()
    dma_window: tuple[int, int] = (64 << 20, 32 << 20)
    rules: tuple[Rule, ...] = ()
    vendor_id: int = 0x1AF4
    device_id: int = 0x10F0
    revision: int = 1
    class_code: int = 0x028000
    subsystem_vendor_id: int = 0x1AF4
    subsystem_id: int = 0x1100
    bars: tuple[Bar, ...] = (Bar(0, 0x10000),)
    msix_vectors: int = 4
    intx: bool = True


def to_json(spec: Spec) -> dict[str, Any]:
    """For the supervisor."""
    fields = spec._asdict()
    fields["bars"] = [bar._asdict() for bar in spec.bars]
    fields["rules"] = [rule._asdict() for rule in spec.rules]
    return fields


def from_json(fields: dict[str, Any]) -> Spec:
    """The spec that `to_json` made them of."""
    fields = dict(fields)
    fields["bars"] = tuple(Bar(**bar) for bar in fields["bars"])
    fields["rules"] = tuple(
        Rule(**{**rule, "states": tuple(rule["states"])}) for rule in fields["rules"]
    )
    fields["dma_window"] = tuple(fields["dma_window"])
    fields["latency"] = tuple((str(name), float(s)) for name, s in fields["latency"])
    return Spec(**fields)
