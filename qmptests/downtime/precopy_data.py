"""The precopy story as data: times are microseconds on the source's clock, sizes are bytes."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import msgspec

T = TypeVar("T")

#: Items kept of each list; above it neighbours are put together.
LIMIT = 1000


class Why(StrEnum):
    """Why switchover did not happen yet: the first of these that holds."""

    #: Devices and channels are being set up.
    SETUP = "setup"
    #: Somebody stopped the guest: precopy goes on, and acks are not awaited.
    PAUSED = "paused"
    #: QEMU measures for 100 ms; before that nothing fits into the limit.
    BANDWIDTH = "bandwidth"
    #: More is known to be left than fits into the limit.
    BYTES = "bytes"
    #: The rest is small enough, or not known to be too much, but an ack is missing and devices had
    #: their turn.
    ACK = "ack"
    #: RAM's first pass: devices are read only after it.
    RAM = "ram"
    #: None of these.
    UNKNOWN = "unknown"


class Sizes(msgspec.Struct, frozen=True):
    """What a device has left. `total` is all of it, stop-copy included; None if nobody said."""

    initial: int = 0
    dirty: int = 0
    total: int | None = None

    @property
    def left(self) -> int:
        """All that is known to be left."""
        return max(self.total or 0, self.initial + self.dirty)

    @property
    def stop_copy(self) -> int:
        """What can be read only when the VM is stopped."""
        return self.left - self.initial - self.dirty

    def less(self, count: int) -> "Sizes":
        """After `count` bytes have been read in PRE_COPY: initial bytes come first."""
        initial = max(0, self.initial - count)
        dirty = max(0, self.dirty - (count - (self.initial - initial)))
        return Sizes(initial, dirty, None if self.total is None else max(0, self.total - count))


class Left(msgspec.Struct, frozen=True):
    """What is known to be left at one moment. `ram` is None if it was not traced."""

    ram: int | None
    devices: dict[str, Sizes]

    @property
    def total(self) -> int:
        """All that is known."""
        return (self.ram or 0) + sum(sizes.left for sizes in self.devices.values())


class Interval(msgspec.Struct, frozen=True):
    """A part of precopy with one reason.

    `devices`: whose ack is missing. `first`, `last`: what was left at its begin and its end.
    `fits`: bytes that fit into the limit, as QEMU reckoned last; None before it did.
    """

    begin_us: int
    end_us: int
    why: Why
    devices: tuple[str, ...]
    first: Left
    last: Left
    fits: int | None

    @property
    def us(self) -> int:
        """How long it lasted."""
        return self.end_us - self.begin_us


class Pass(msgspec.Struct, frozen=True):
    """One pass over memory, or passes `number` to `until` in which nothing changed.

    `first`: what was left when it began, its questions answered; `last`: when the last one ended.
    `expected_ms`: how long what is known of `last` would take; None before a bandwidth is known.
    """

    number: int
    until: int
    begin_us: int
    end_us: int
    first: Left
    last: Left
    expected_ms: float | None


class Bandwidth(msgspec.Struct, frozen=True):
    """QEMU's reckoning, every 100 ms: bytes a second as measured, and as used for the switchover.

    `fits`: bytes that it takes to fit into the limit.
    """

    at_us: int
    measured: int
    switchover: int
    fits: int


class Reinit(msgspec.Struct, frozen=True):
    """A device whose precopy data began anew, with so many initial bytes.

    `new`: those that were not initial before: without REINIT they would be dirty, and need not be
    read in precopy.
    """

    at_us: int
    initial: int
    new: int = 0


class Device(msgspec.Struct, frozen=True):
    """One device. `first`, `last`: what it had left at its first answer and at the end.

    `read_bytes`: in PRE_COPY, in `reading_us` of reads; None if nobody logged that. `reinits`: the
    last ones, `reinit_count` all. `moved_bytes`: from stop-copy to precopy by them: initial bytes
    that were new with a REINIT, and were read in PRE_COPY.
    """

    name: str
    first: Sizes | None
    last: Sizes | None
    read_bytes: int | None
    reading_us: int
    reinits: list[Reinit]
    reinit_count: int
    moved_bytes: int = 0

    @property
    def rate(self) -> float | None:
        """Bytes a second while it was being read."""
        return self.read_bytes * 1e6 / self.reading_us if self.read_bytes else None


class Ack(msgspec.Struct):
    """One ack: None for what did not happen, or nobody told.

    `why`: "setup" or "reinit". `sent_us`: its initial data had gone out. `approved_us`: the
    destination had loaded them. `given_us`: the ack arrived at the source; with the legacy
    mechanism one for all devices.
    """

    device: str
    why: str
    asked_us: int
    sent_us: int | None = None
    approved_us: int | None = None
    given_us: int | None = None


class Story(msgspec.Struct, frozen=True):
    """From `migrate` to the decision to switch over.

    `ended`: "switchover", or the migration's state that ended precopy; "" if the logs end before.
    `pending`: bytes left at the decision, by QEMU. `mechanism`: of acks, "new" or "legacy"; "" if
    none were used, None if that can't be told. `intervals`: one after the other, without a gap.
    """

    begin_us: int
    end_us: int
    ended: str
    pending: int | None
    limit_ms: int
    mechanism: str | None
    intervals: list[Interval]
    passes: list[Pass]
    pass_count: int
    bandwidths: list[Bandwidth]
    devices: list[Device]
    acks: list[Ack]
    notes: list[str]

    @property
    def us(self) -> int:
        """How long it lasted."""
        return self.end_us - self.begin_us


def thinned(items: list[T], merge: Callable[[T, T], T]) -> None:
    """Put neighbours together once there are more than LIMIT; the last stays as it is."""
    if len(items) > LIMIT:
        pairs = zip(items[:-1:2], items[1:-1:2], strict=False)
        odd = items[-2:-1] if len(items) % 2 == 0 else []
        items[:] = [*(merge(first, second) for first, second in pairs), *odd, items[-1]]
