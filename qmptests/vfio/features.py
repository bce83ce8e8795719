"""What VFIO_DEVICE_FEATURE can do with a device: migration states, and DMA logging.

What is refused, and with which errno, is as in drivers/vfio/vfio_main.c of Linux 7.3. Pure.
"""

import errno
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from qmptests.vfio import abi, states
from qmptests.vfio.abi import Feature, FeatureFlag, MigrationFlag, State
from qmptests.vfio.calls import Answer, Call, Memory
from qmptests.vfio.iova import PAGE
from qmptests.vfio.migration import Migration
from qmptests.vfio.spec import DEVICE_TRACKING, Spec
from qmptests.vfio.tracking import MOST_RANGES, DirtyPages

#: So many ranges of a dma-buf fit into what kmalloc() has at most, 4 MiB.
_MOST_DMA_RANGES = (4 << 20) // abi.DMA_RANGE.size
_GET, _SET, _PROBE = int(FeatureFlag.GET), int(FeatureFlag.SET), int(FeatureFlag.PROBE)


class Features:
    """A device's features, and the state that they are about.

    `state`: the migration state. `problems`: what QEMU was refused for what it sent, in words.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.flags = MigrationFlag(spec.migration)
        self.state = State.RUNNING
        self.migration = Migration(spec)
        self.dirty_pages = DirtyPages()
        self.problems: list[str] = []
        self._failed = False
        #: What can be done with each feature; all others are ENOTTY.
        self._able: dict[int, int] = {}
        if self.flags:
            self._able |= {Feature.MIGRATION: _GET, Feature.MIG_DATA_SIZE: _GET}
            self._able[Feature.MIG_DEVICE_STATE] = _GET | _SET
        if spec.precopy_v2:
            self._able[Feature.MIG_PRECOPY_INFOV2] = _SET
        if spec.dma_buf:
            self._able[Feature.DMA_BUF] = _GET
        if spec.dirty_tracking == DEVICE_TRACKING:
            self._able |= {Feature.DMA_LOGGING_START: _SET, Feature.DMA_LOGGING_STOP: _SET}
            self._able[Feature.DMA_LOGGING_REPORT] = _GET

    def reset(self) -> None:
        """As after VFIO_DEVICE_RESET: the opt-in to REINIT and DMA logging outlive it."""
        self.state = State.RUNNING
        self.migration.leave(State.RUNNING)
        self._failed = False

    def fail(self) -> None:
        """Go to ERROR; the request about migration that comes first after that fails with EIO."""
        self.state = State.ERROR
        self.migration.leave(State.ERROR)
        self._failed = True

    def probe(self, call: Call, _: Memory, __: float) -> Answer:
        """PROBE of any feature, and all that is asked of an unknown one."""
        return Answer(errno=self._refused(call.argument, call.flags))

    def answer(self, call: Call, memory: Memory, now: float) -> Answer:
        """GET and SET of the features in `FEATURES`."""
        feature = FEATURES[call.name]
        refused = self._refused(feature.number, call.flags)
        if not refused and feature.data and call.argument is None:
            refused = errno.EINVAL
        return Answer(errno=refused) if refused else feature.answer(self, call, memory, now)

    def _refused(self, number: int, flags: int) -> int:
        """The errno for what is asked, or 0."""
        asked = flags & (_GET | _SET)
        if flags & ~(_GET | _SET | _PROBE) or (asked == _GET | _SET and not flags & _PROBE):
            return errno.EINVAL
        able = self._able.get(number)
        if able is None:
            return errno.ENOTTY
        if number == Feature.MIG_PRECOPY_INFOV2 and not self.flags & MigrationFlag.PRE_COPY:
            return errno.EINVAL
        return errno.EINVAL if asked & ~able or not flags & (asked | _PROBE) else 0

    # --- migration ------------------------------------------------------------------------------

    def _migration_flags(self, call: Call, memory: Memory, _: float) -> Answer:
        return put(call, memory, abi.FEATURE_MIGRATION, abi.FeatureMigration(self.flags))

    def _opt_in(self, _: Call, __: Memory, ___: float) -> Answer:
        self.migration.opted_in = True
        return Answer()

    def _get_state(self, call: Call, memory: Memory, _: float) -> Answer:
        return put(call, memory, abi.FEATURE_MIG_STATE, abi.FeatureMigState(self.state, -1))

    def _set_state(self, call: Call, memory: Memory, now: float) -> Answer:
        """After a failure the device is where the last step that succeeded led.

        The caller's data_fd is -1 unless it gets a new descriptor: 0 would be one.
        """
        wanted = call.argument.device_state
        put(call, memory, abi.FEATURE_MIG_STATE, abi.FeatureMigState(wanted, -1))
        if self._notice_failure():
            return Answer(errno=errno.EIO)
        opens = ""
        try:
            for step in states.path(self.state, State(wanted), self.flags):
                checks = self.state is State.RESUMING and not self.spec.refuse_at_write
                if checks and (problem := self.migration.load()):
                    # As hisi_acc does, which checks here what arrived: it stays in RESUMING.
                    self.problems.append(problem)
                    return Answer(errno=errno.EINVAL, detail=(("problem", problem),))
                opens = self.migration.enter(step, now)
                self.state = step
        except (ValueError, states.Forbidden):
            return Answer(errno=errno.EINVAL)
        at = call.payload + abi.FEATURE_MIG_STATE.offsets()["data_fd"] if opens else 0
        return Answer(opens=opens, opens_at=at)

    def _data_size(self, call: Call, memory: Memory, now: float) -> Answer:
        if self._notice_failure():
            return Answer(errno=errno.EIO)
        size = self.migration.data_size(now)
        put(call, memory, abi.DATA_SIZE, abi.DataSize(size))
        return Answer(detail=(("stop_copy_length", size),))

    def precopy_info(self, call: Call, memory: Memory, now: float) -> Answer:
        """GET_PRECOPY_INFO, which is asked of the data descriptor."""
        if self._notice_failure():
            return Answer(errno=errno.EIO)
        info = self.migration.precopy_info(call.argument, now)
        if info is None:
            return Answer(errno=errno.EINVAL)
        put(call, memory, abi.PRECOPY_INFO, info)
        return Answer(detail=tuple(zip(info._fields, info, strict=True))[1:])

    def read(self, call: Call, _: Memory, now: float) -> Answer:
        """read() on the data descriptor of a save."""
        if self._notice_failure():
            return Answer(errno=errno.EIO)
        return self.migration.read(call.argument, now)

    def write(self, call: Call, memory: Memory, now: float) -> Answer:
        """write() on the data descriptor of a load.

        With `refuse_at_write` wrong data is EINVAL, and all that comes after it ENODEV
        (mlx5vf_resume_write()).
        """
        if self._notice_failure():
            return Answer(errno=errno.EIO)
        if self.spec.refuse_at_write and self.state is State.RESUMING:
            if self.migration.spoilt:
                return Answer(errno=errno.ENODEV)
            if problem := self.migration.arrives(call, memory):
                self.migration.spoilt = True
                self.problems.append(problem)
                return Answer(errno=errno.EINVAL, detail=(("problem", problem),))
        return self.migration.write(call.argument, now)

    def _notice_failure(self) -> bool:
        failed, self._failed = self._failed, False
        return failed

    # --- DMA logging ----------------------------------------------------------------------------

    def _dma_start(self, call: Call, memory: Memory, _: float) -> Answer:
        asked: abi.LoggingControl = call.argument
        if asked.num_ranges > MOST_RANGES:
            return Answer(errno=errno.E2BIG)
        size = abi.LOGGING_RANGE.size
        data = memory.read(asked.ranges, asked.num_ranges * size) if asked.num_ranges else b""
        ranges = [
            abi.LOGGING_RANGE.unpack(data[at : at + size]) for at in range(0, len(data), size)
        ]
        page_size = self.dirty_pages.start(asked.page_size, ranges)
        return put(call, memory, abi.LOGGING_CONTROL, asked._replace(page_size=page_size))

    def _dma_stop(self, _: Call, __: Memory, ___: float) -> Answer:
        self.dirty_pages.stop()
        return Answer()

    def _dma_report(self, call: Call, memory: Memory, _: float) -> Answer:
        asked: abi.LoggingReport = call.argument
        bitmap, iova, length, page_size = asked.bitmap, asked.iova, asked.length, asked.page_size
        self.dirty_pages.deliver(memory, bitmap, iova, length, page_size)
        return Answer()

    # --- memory that is shared ------------------------------------------------------------------

    def _dma_buf(self, call: Call, memory: Memory, _: float) -> Answer:
        """A descriptor for parts of a BAR (vfio_pci_core_feature_dma_buf())."""
        asked: abi.DmaBuf = call.argument
        if not asked.nr_ranges or asked.flags:
            return Answer(errno=errno.EINVAL)
        if asked.region_index >= abi.Region.ROM:
            return Answer(errno=errno.ENODEV)
        if asked.nr_ranges > _MOST_DMA_RANGES:
            return Answer(errno=errno.ENOMEM)
        size = abi.DMA_RANGE.size
        data = memory.read(call.payload + abi.DMA_BUF.size, asked.nr_ranges * size)
        ranges = [abi.DMA_RANGE.unpack(data[at : at + size]) for at in range(0, len(data), size)]
        length = sum(part.length for part in ranges)
        if not all(map(_is_whole_pages, ranges)) or length >= 1 << 63:
            return Answer(errno=errno.EINVAL)
        bar = next((bar for bar in self.spec.bars if bar.index_ == asked.region_index), None)
        if bar is None:
            return Answer(errno=errno.EINVAL)
        for part in ranges:
            # A BAR lies at some multiple of its size, and not at 0.
            if part.offset + max(part.length, bar.size) >= 1 << 64:
                return Answer(errno=errno.EOVERFLOW)
            if part.offset + part.length > bar.size:
                return Answer(errno=errno.EINVAL)
        return Answer(
            dma_buf=length,
            dma_buf_ranges=asked.nr_ranges,
            cloexec=bool(asked.open_flags & os.O_CLOEXEC),
        )


def _is_whole_pages(part: abi.DmaRange) -> bool:
    return part.length > 0 and not (part.offset | part.length) % PAGE


class _Feature(NamedTuple):
    number: Feature
    #: Whether it needs a structure behind the header.
    data: bool
    answer: Callable[[Features, Call, Memory, float], Answer]


#: By the call's name.
FEATURES = {
    "migration-flags": _Feature(Feature.MIGRATION, True, Features._migration_flags),
    "get-state": _Feature(Feature.MIG_DEVICE_STATE, True, Features._get_state),
    "set-state": _Feature(Feature.MIG_DEVICE_STATE, True, Features._set_state),
    "data-size": _Feature(Feature.MIG_DATA_SIZE, True, Features._data_size),
    "precopy-info-v2": _Feature(Feature.MIG_PRECOPY_INFOV2, False, Features._opt_in),
    "dma-start": _Feature(Feature.DMA_LOGGING_START, True, Features._dma_start),
    "dma-stop": _Feature(Feature.DMA_LOGGING_STOP, False, Features._dma_stop),
    "dma-report": _Feature(Feature.DMA_LOGGING_REPORT, True, Features._dma_report),
    "dma-buf": _Feature(Feature.DMA_BUF, True, Features._dma_buf),
}


def put(call: Call, memory: Memory, layout: abi.Layout[Any], record: Any) -> Answer:
    """Give the caller the record, as much of it as its structure has; a plain success."""
    room = call.size - (call.payload - call.address)
    memory.write(call.payload, layout.pack(record)[:room])
    return Answer()
