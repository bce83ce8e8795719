"""What RAM and the devices have left, by what the devices answered and QEMU traced.

A device's call log has each answer; without one, or for RAM, only events that flood tell:
`vfio_state_pending*`, `vfio_query_*_size`, `vfio_save_block`, `qemu_savevm_query_pending` (11.1),
`migrate_pending_*` (10.0), of which QEMU adds up its own sum of all.
"""

import re
from collections.abc import Collection
from typing import Any

from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.precopy_data import LIMIT, Device, Left, Reinit, Sizes

CALLS = ("data-size", "precopy-info", "read")
SUMS = ("qemu_savevm_query_pending", "migrate_pending_estimate", "migrate_pending_exact")
TRACED = (
    *SUMS,
    "vfio_query_precopy_size",
    "vfio_query_stop_copy_size",
    "vfio_save_block",
    "vfio_state_pending",
    "vfio_state_pending_estimate",
    "vfio_state_pending_exact",
)
#: VFIO_PRECOPY_INFO_REINIT.
_REINIT = 1
_TIMES = re.compile(r"\((\d+) times ")


class _Known:
    """What is known of one device."""

    def __init__(self) -> None:
        self.sizes = Sizes()
        self.first: Sizes | None = None
        self.read_bytes: int | None = None
        self.reading_us = 0
        self.reinits: list[Reinit] = []
        self.reinit_count = 0
        self.new_bytes = 0


class Remaining:
    """Follows the sizes. `logged`: devices that have a call log, which is then believed."""

    def __init__(self, logged: Collection[str]) -> None:
        self._logged = frozenset(logged)
        self._known: dict[str, _Known] = {}
        self._ram: int | None = None
        #: As of now; a new object whenever something changed.
        self.left = Left(None, {})
        #: Whether a device was read from, or could have been: RAM had done a pass.
        self.had_turn = False

    def see(self, moment: Moment) -> bool:
        """Take in one moment of `CALLS` and `TRACED`; says whether sizes were asked for anew."""
        name, args = moment.name, moment.args
        if name in SUMS:
            self._sum(name, args)
            return True
        called = moment.witness is Witness.CALLS
        if not moment.device or (not called and moment.device in self._logged):
            return False
        device = self._known.setdefault(moment.device, _Known())
        sizes = device.sizes
        if name in ("read", "vfio_save_block"):
            self._read(device, moment, args)
        elif name == "data-size":
            sizes = Sizes(sizes.initial, sizes.dirty, _int(args, "stop_copy_length"))
        elif name == "vfio_query_stop_copy_size":
            sizes = Sizes(sizes.initial, sizes.dirty, _int(args, "stopcopy"))
        else:
            total = _int(args, "stopcopy")
            initial, dirty = (
                _first(args, "initial_bytes", "init"),
                _first(args, "dirty_bytes", "dirty"),
            )
            if initial is None or dirty is None:
                return False  # an error
            sizes = Sizes(initial, dirty, sizes.total if total is None else total)
            if (_int(args, "flags") or 0) & _REINIT or _int(args, "reinit"):
                self._reinit(device, moment, initial)
        if name not in ("read", "vfio_save_block"):
            device.sizes = sizes
        if device.first is None and name not in ("data-size", "vfio_query_stop_copy_size"):
            device.first = device.sizes
        self._changed()
        return name not in ("read", "vfio_save_block")

    def devices(self) -> list[Device]:
        """What became of each."""
        return [
            Device(
                name,
                known.first,
                known.sizes,
                known.read_bytes,
                known.reading_us,
                known.reinits,
                known.reinit_count,
                max(0, known.new_bytes - known.sizes.initial),
            )
            for name, known in self._known.items()
        ]

    def _read(self, device: _Known, moment: Moment, args: dict[str, Any]) -> None:
        self.had_turn = True
        count = _first(args, "data_size", "bytes")
        if moment.witness is Witness.CALLS and moment.text.partition("-> ")[2][:1] == "E":
            count = 0
            device.read_bytes = device.read_bytes or 0
        elif count is None:
            # A log without `bytes`: not more than was asked for, nor than there was.
            known = device.sizes.initial or device.sizes.dirty
            count = min(_int(args, "length") or 0, known)
        if count:
            device.read_bytes = (device.read_bytes or 0) + count
            device.reading_us += moment.us or 0
            device.sizes = device.sizes.less(count)

    def _reinit(self, device: _Known, moment: Moment, initial: int) -> None:
        times = _TIMES.search(moment.text) if moment.witness is Witness.CALLS else None
        count = int(times[1]) if times else 1
        new = max(0, initial - device.sizes.initial)
        device.reinit_count += count
        device.new_bytes += new * count
        device.reinits.append(Reinit(moment.at_us, initial, new))
        del device.reinits[:-LIMIT]

    def _sum(self, name: str, args: dict[str, Any]) -> None:
        """RAM has what QEMU's sum has more than the devices."""
        estimate = name == "migrate_pending_estimate"  # 10.0 leaves stop-copy data out of it
        devices = sum(
            known.sizes.initial + known.sizes.dirty if estimate else known.sizes.left
            for known in self._known.values()
        )
        total = _first(args, "total", "size")
        if total is not None:
            self._ram = max(0, total - devices)
            self._changed()

    def _changed(self) -> None:
        left = Left(self._ram, {name: known.sizes for name, known in self._known.items()})
        if left != self.left:
            self.left = left


def _first(args: dict[str, Any], *names: str) -> int | None:
    return next((found for n in names if (found := _int(args, n)) is not None), None)


def _int(args: dict[str, Any], name: str) -> int | None:
    value = args.get(name)
    return value if isinstance(value, int) else None
