"""A device answers as vfio-pci does, and refuses what vfio-pci refuses."""

import errno
import os
import struct
from typing import Any

import pytest

from qmptests.vfio import abi
from qmptests.vfio.abi import Feature, Iommu, Irq, MigrationFlag, Region, State, Vfio
from qmptests.vfio.calls import Answer, Call, Unknown
from qmptests.vfio.pci import DEVICE_CONTROL
from qmptests.vfio.spec import Bar, Spec
from qmptests.vfio.words import state_of
from tests.vfio.caller import ALL, AT, GET, PAGE, PROBE, SET, Caller, Events

BITMAP = AT + 0x4000
RANGES = AT + 0x5000


def caller(**fields: Any) -> Caller:
    return Caller(Spec("vf0", **fields))


def start_logging(vf: Caller, *ranges: tuple[int, int], page: int = PAGE, count: int = -1) -> int:
    """The errno of DMA_LOGGING_START, or the page size that it gives."""
    data = b"".join(struct.pack("<QQ", *each) for each in ranges)
    vf.memory.write(RANGES, data)
    control = abi.LoggingControl(page, len(ranges) if count < 0 else count, 0, RANGES)
    answer, after = vf.feature(Feature.DMA_LOGGING_START, SET, abi.LOGGING_CONTROL.pack(control))
    return answer.errno or abi.LOGGING_CONTROL.unpack(after).page_size


def report(vf: Caller, iova: int, length: int, page: int = PAGE) -> int:
    """The errno of DMA_LOGGING_REPORT."""
    record = abi.LoggingReport(iova, length, page, BITMAP)
    return vf.feature(Feature.DMA_LOGGING_REPORT, GET, abi.LOGGING_REPORT.pack(record))[0].errno


class TestBinding:
    def test_comes_before_everything_else(self) -> None:
        vf = Caller(Spec("vf0"), bind=False)
        asked = abi.DeviceInfo(24, 0, 0, 0)
        assert vf.device.bound_at is None
        assert vf.ask(Vfio.DEVICE_GET_INFO, abi.DEVICE_INFO, asked) == (
            Answer(errno=errno.EINVAL),
            asked,
        )
        assert vf.feature(Feature.MIGRATION, PROBE)[0].errno == errno.EINVAL
        assert vf.reset().errno == errno.EINVAL

    def test_gives_an_id_once(self) -> None:
        vf = Caller(Spec("vf0"), bind=False)
        vf.now = 5.0
        record = abi.BindIommufd(24, 0, 7, 0)
        answer, after = vf.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, record)
        assert (answer, after.out_devid) == (Answer(), vf.device.devid)
        assert after.out_devid > 0
        assert vf.device.bound_at == 5.0
        again, _ = vf.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, record)
        assert again.errno == errno.EINVAL

    @pytest.mark.parametrize("record", [(24, 2, 7, 0), (24, 0, -1, 0), (12, 0, 7, 0)])
    def test_is_refused(self, record: tuple[int, int, int, int]) -> None:
        vf = Caller(Spec("vf0"), bind=False)
        asked = abi.BindIommufd(*record)
        answer, after = vf.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, asked)
        assert (answer.errno, after) == (errno.EINVAL, asked)

    @pytest.mark.parametrize(("number", "expected"), [(Events.BAD, "EBADF"), (12, "EBADFD")])
    def test_goes_to_an_iommufd(self, number: int, expected: str) -> None:
        vf = Caller(Spec("vf0"), bind=False)
        asked = abi.BindIommufd(24, 0, number, 0)
        answer, after = vf.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, asked)
        assert (errno.errorcode[answer.errno], after) == (expected, asked)
        assert vf.device.bound_at is None

    @pytest.mark.parametrize(("address", "expected"), [(0, "EFAULT"), (AT, "EINVAL")])
    def test_has_no_use_for_a_token(self, address: int, expected: str) -> None:
        vf = Caller(Spec("vf0"), bind=False)
        asked = abi.BindIommufd(24, abi.BIND_TOKEN, 7, 0, address)
        answer, _ = vf.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, asked)
        assert errno.errorcode[answer.errno] == expected

    def test_of_an_older_caller_writes_no_more_than_it_has(self) -> None:
        vf = Caller(Spec("vf0"), bind=False)
        record = abi.BindIommufd(16, 0, 7, 0, token_uuid_ptr=0xDEAD)
        answer, after = vf.ask(Vfio.DEVICE_BIND_IOMMUFD, abi.BIND_IOMMUFD, record)
        assert (answer, after.token_uuid_ptr) == (Answer(), 0xDEAD)

    def test_is_followed_by_attach_and_detach(self) -> None:
        vf = caller()
        unknown = abi.AttachIommufdPt(16, 0, 999)
        answer, _ = vf.ask(Vfio.DEVICE_ATTACH_IOMMUFD_PT, abi.ATTACH_IOMMUFD_PT, unknown)
        assert answer.errno == errno.ENOENT
        for flags, expected in ((2, errno.EINVAL), (1, 0), (0, 0)):
            record = abi.DetachIommufdPt(12, flags)
            answer, _ = vf.ask(Vfio.DEVICE_DETACH_IOMMUFD_PT, abi.DETACH_IOMMUFD_PT, record)
            assert answer.errno == expected

    def test_to_an_address_space_gives_the_page_table_of_it(self) -> None:
        vf = caller()
        _, ioas = vf.ask(Iommu.IOAS_ALLOC, abi.IOAS_ALLOC, abi.IoasAlloc(12, 0, 0), "iommufd")
        record = abi.AttachIommufdPt(16, 0, ioas.out_ioas_id)
        answer, after = vf.ask(Vfio.DEVICE_ATTACH_IOMMUFD_PT, abi.ATTACH_IOMMUFD_PT, record)
        assert answer == Answer()
        assert after.pt_id not in (0, ioas.out_ioas_id, vf.device.devid)

    def test_lets_the_iommu_see_what_the_device_writes_if_it_tracks_that(self) -> None:
        vf = caller(dirty_tracking="iommu")
        _, ioas = vf.ask(Iommu.IOAS_ALLOC, abi.IOAS_ALLOC, abi.IoasAlloc(12, 0, 0), "iommufd")
        asked = abi.HwptAlloc(
            48, abi.HwptFlag.DIRTY_TRACKING, vf.device.devid, ioas.out_ioas_id, *[0] * 7
        )
        answer, hwpt = vf.ask(Iommu.HWPT_ALLOC, abi.HWPT_ALLOC, asked, "iommufd")
        assert not answer.errno
        attach = abi.AttachIommufdPt(16, 0, hwpt.out_hwpt_id)
        answer, _ = vf.ask(Vfio.DEVICE_ATTACH_IOMMUFD_PT, abi.ATTACH_IOMMUFD_PT, attach)
        assert not answer.errno
        file = os.memfd_create("memory")
        os.truncate(file, 0x10000)
        mapping = abi.IoasMapFile(40, 7, ioas.out_ioas_id, file, 0, 0x10000, 0x10000)
        vf.ask(Iommu.IOAS_MAP_FILE, abi.IOAS_MAP_FILE, mapping, "iommufd")
        os.close(file)
        enable = abi.DirtyTracking(16, abi.DIRTY_TRACKING_ENABLE, hwpt.out_hwpt_id, 0)
        answer, _ = vf.ask(Iommu.HWPT_SET_DIRTY_TRACKING, abi.DIRTY_TRACKING, enable, "iommufd")
        assert not answer.errno
        vf.device.wrote(0x12000, 1)
        bitmap = abi.DirtyBitmap(48, hwpt.out_hwpt_id, 0, 0, 0x10000, 0x10000, PAGE, BITMAP)
        answer, _ = vf.ask(Iommu.HWPT_GET_DIRTY_BITMAP, abi.DIRTY_BITMAP, bitmap, "iommufd")
        assert answer.errno == 0
        assert vf.memory.read(BITMAP, 8) == b"\x04" + bytes(7)


class TestInfo:
    def test_of_the_device(self) -> None:
        _, info = caller().ask(Vfio.DEVICE_GET_INFO, abi.DEVICE_INFO, abi.DeviceInfo(24, 0, 0, 0))
        assert info == abi.DeviceInfo(24, abi.DeviceFlag.PCI | abi.DeviceFlag.RESET, 9, 5)

    @pytest.mark.parametrize(
        ("index", "length", "flags"),
        [(Region.BAR0, 0x20000, 7), (Region.BAR1, 0, 0), (Region.ROM, 0, 0), (7, 4096, 3)],
    )
    def test_of_a_region(self, index: int, length: int, flags: int) -> None:
        """Where there is no capability, `cap_offset` is what it was."""
        vf = caller(bars=(Bar(0, 0x20000),), msix_mappable=False)
        asked = abi.RegionInfo(4096, 0, index, 99, 99, 99)
        answer, info = vf.ask(Vfio.DEVICE_GET_REGION_INFO, abi.REGION_INFO, asked)
        assert answer == Answer()
        assert info == abi.RegionInfo(4096, flags, index, 99, length, index << 40)

    @pytest.mark.parametrize(("argsz", "said"), [(32, (40, 0)), (39, (40, 0)), (40, (40, 32))])
    def test_of_the_bar_with_the_msix_table(self, argsz: int, said: tuple[int, int]) -> None:
        """That it may be mapped as a whole, or how much room is needed to say so."""
        vf = caller(bars=(Bar(0, 0x1000), Bar(1, 0x2000)))
        vf.memory.write(AT + 32, b"\xff" * 16)
        asked = abi.RegionInfo(argsz, 0, 0, 99, 0, 0)
        for index, flags in ((0, 7 | abi.RegionFlag.CAPS), (1, 7)):
            answer, info = vf.ask(
                Vfio.DEVICE_GET_REGION_INFO, abi.REGION_INFO, asked._replace(index_=index)
            )
            assert (answer, info.flags) == (Answer(), flags)
            if index == 0:
                assert (info.argsz, info.cap_offset) == said
                capability = b"\x03\0\x01\0\0\0\0\0" if said[1] else b"\xff" * 8
                assert vf.memory.read(AT + 32, 16) == capability + b"\xff" * 8

    def test_of_a_bar_with_the_msix_table_that_cannot_be_mapped(self) -> None:
        vf = caller(bars=(Bar(0, 0x1000, mmap=False),))
        asked = abi.RegionInfo(40, 0, 0, 99, 0, 0)
        _, info = vf.ask(Vfio.DEVICE_GET_REGION_INFO, abi.REGION_INFO, asked)
        assert (info.flags, info.cap_offset) == (3, 99)

    @pytest.mark.parametrize("index", [Region.VGA, 9, 0xFFFFFFFF])
    def test_of_a_region_that_is_none(self, index: int) -> None:
        asked = abi.RegionInfo(32, 0, index, 0, 0, 0)
        answer, info = caller().ask(Vfio.DEVICE_GET_REGION_INFO, abi.REGION_INFO, asked)
        assert (answer.errno, info) == (errno.EINVAL, asked)

    def test_of_interrupts(self) -> None:
        vf = caller(msix_vectors=6)
        _, info = vf.ask(Vfio.DEVICE_GET_IRQ_INFO, abi.IRQ_INFO, abi.IrqInfo(16, 0, Irq.MSIX, 0))
        assert (info.index_, info.count_) == (Irq.MSIX, 6)
        answer, _ = vf.ask(Vfio.DEVICE_GET_IRQ_INFO, abi.IRQ_INFO, abi.IrqInfo(16, 0, 5, 0))
        assert answer.errno == errno.EINVAL


class TestInterrupts:
    def ask(self, vf: Caller, irq_set: abi.IrqSet, data: bytes) -> Answer:
        vf.memory.write(AT + abi.IRQ_SET.size, data)
        return vf.ask(Vfio.DEVICE_SET_IRQS, abi.IRQ_SET, irq_set)[0]

    def test_get_the_descriptors_behind_the_structure(self) -> None:
        vf = caller()
        answer = self.ask(vf, abi.IrqSet(28, 0x24, Irq.MSIX, 1, 2), struct.pack("<ii", 40, -1))
        assert (answer, vf.events.open) == (Answer(), [40])

    @pytest.mark.parametrize("argsz", [20, 27])
    def test_need_all_of_them(self, argsz: int) -> None:
        irq_set = abi.IrqSet(argsz, 0x24, Irq.MSIX, 1, 2)
        assert self.ask(caller(), irq_set, bytes(8)).errno == errno.EINVAL

    def test_fault_where_there_is_no_memory(self) -> None:
        irq_set = abi.IrqSet(28, 0x24, Irq.MSIX, 1, 2)
        vf = caller()
        call = Call("set-irqs", 0, irq_set, payload=AT + 0x10000, size=28)
        assert vf.device.handle(call, vf.memory, 0.0) == Answer(errno=errno.EFAULT)


class TestReset:
    @pytest.mark.parametrize("state", ["stop-copy", "resuming", "pre-copy", "stop"])
    def test_leads_back_to_running_and_leaves_configuration_and_interrupts(
        self, state: str
    ) -> None:
        vf = caller()
        vf.device.config_write(Call("config-write", 0x04, b"\x06\x04"))
        TestInterrupts().ask(vf, abi.IrqSet(24, 0x24, Irq.MSIX, 0, 1), struct.pack("<i", 40))
        vf.set_state(state)
        assert vf.reset() == Answer()
        assert vf.state() == State.RUNNING
        assert vf.read().errno == errno.ENODEV
        assert vf.device.config.image[4:6] == b"\x06\x04"
        assert vf.device.interrupts.enabled(Irq.MSIX) == {0}

    def test_by_configuration_space_is_one_as_well(self) -> None:
        vf = caller()
        vf.set_state("stop")
        written = vf.device.config_write(Call("config-write", DEVICE_CONTROL, b"\0\x80"))
        assert vf.state() == State.RUNNING
        assert written[1] & 0x80 == 0

    def test_of_a_whole_bus_is_not_to_be_had(self) -> None:
        vf = caller()
        record = abi.HotReset(12, 0, 0)
        for request, layout in (
            (Vfio.DEVICE_GET_PCI_HOT_RESET_INFO, abi.HOT_RESET_INFO),
            (Vfio.DEVICE_PCI_HOT_RESET, abi.HOT_RESET),
        ):
            assert vf.ask(request, layout, record)[0].errno == errno.ENODEV
        for unsound in (abi.HotReset(12, 1, 0), abi.HotReset(12, 0, 1)):
            answer, _ = vf.ask(Vfio.DEVICE_PCI_HOT_RESET, abi.HOT_RESET, unsound)
            assert answer.errno == errno.EINVAL


class TestAFailure:
    def test_is_noticed_once_and_then_the_device_is_in_error_until_reset(self) -> None:
        vf = caller()
        vf.set_state("pre-copy")
        vf.device.fail()
        assert vf.state() == State.ERROR
        assert vf.set_state("stop-copy") == Answer(errno=errno.EIO)
        assert vf.set_state("stop-copy") == Answer(errno=errno.EINVAL)
        assert vf.set_state("running") == Answer(errno=errno.EINVAL)
        assert vf.read() == Answer(errno=errno.ENODEV)
        vf.reset()
        assert vf.set_state("stop-copy").opens == "saving"

    def test_is_forgotten_by_a_reset(self) -> None:
        vf = caller()
        vf.device.fail()
        vf.reset()
        assert vf.set_state("stop") == Answer()


def dma_buf(
    vf: Caller, *ranges: tuple[int, int], region: int = 0, flags: int = 0, **more: int
) -> Answer:
    """What VFIO_DEVICE_FEATURE_DMA_BUF is answered."""
    head = abi.DmaBuf(region, more.get("open_flags", 0), flags, more.get("count", len(ranges)))
    data = b"".join(struct.pack("<QQ", *part) for part in ranges)
    return vf.feature(Feature.DMA_BUF, GET, abi.DMA_BUF.pack(head) + data)[0]


class TestDmaBufs:
    """For parts of a BAR: vfio_pci_core_feature_dma_buf()."""

    def test_are_as_long_as_their_parts(self) -> None:
        vf = caller(bars=(Bar(0, 0x10000), Bar(2, 0x4000, mmap=False)))
        assert dma_buf(vf, (0, 0x10000)) == Answer(dma_buf=0x10000)
        assert dma_buf(vf, (0x8000, 0x1000), (0, 0x2000), open_flags=os.O_CLOEXEC) == Answer(
            dma_buf=0x3000, dma_buf_ranges=2, cloexec=True
        )
        assert dma_buf(vf, (0x3000, 0x1000), region=2) == Answer(dma_buf=0x1000)

    @pytest.mark.parametrize(
        ("ranges", "more", "number"),
        [
            ([], {}, errno.EINVAL),
            ([(0, 0x1000)], {"flags": 1}, errno.EINVAL),
            ([(0, 0x1000)], {"region": 6}, errno.ENODEV),
            ([(0, 0x1000)], {"region": 9}, errno.ENODEV),
            ([(0, 0x1000)], {"region": 1}, errno.EINVAL),
            ([(0, 0)], {}, errno.EINVAL),
            ([(0x800, 0x1000)], {}, errno.EINVAL),
            ([(0, 0x800)], {}, errno.EINVAL),
            ([(0, 0x11000)], {}, errno.EINVAL),
            ([(0x10000, 0x1000)], {}, errno.EINVAL),
            ([(2**64 - 0x1000, 0x1000)], {}, errno.EOVERFLOW),
            ([(2**64 - 0x2000, 0x4000)], {}, errno.EOVERFLOW),
            ([(0, 2**63)], {}, errno.EINVAL),
            ([(0, 2**63), (0, 2**63)], {}, errno.EINVAL),
            ([(0, 0x1000)], {"count": 5000}, errno.EFAULT),
            ([(0, 0x1000)], {"count": 1 << 19}, errno.ENOMEM),
            ([(0, 0x1000)], {"count": 2**32 - 1}, errno.ENOMEM),
        ],
    )
    def test_are_refused(
        self, ranges: list[tuple[int, int]], more: dict[str, int], number: int
    ) -> None:
        assert dma_buf(caller(), *ranges, **more) == Answer(errno=number)

    def test_need_a_structure_and_may_not_be_there(self) -> None:
        assert caller().feature(Feature.DMA_BUF, GET, bytes(15))[0].errno == errno.EINVAL
        assert caller().feature(Feature.DMA_BUF, PROBE | GET)[0] == Answer()
        assert dma_buf(caller(dma_buf=False), (0, 0x1000)).errno == errno.ENOTTY


class TestFeatures:
    def test_migration_says_what_the_device_supports(self) -> None:
        for flags in (ALL, MigrationFlag.STOP_COPY):
            answer, after = caller(migration=int(flags)).feature(Feature.MIGRATION, GET, bytes(8))
            assert (answer, int.from_bytes(after, "little")) == (Answer(), flags)

    @pytest.mark.parametrize(
        ("number", "flags", "size"),
        [
            (Feature.MIGRATION, GET, 8),
            (Feature.MIG_DEVICE_STATE, GET, 8),
            (Feature.MIG_DEVICE_STATE, SET, 8),
            (Feature.MIG_DATA_SIZE, GET, 8),
        ],
    )
    def test_of_migration_are_not_there_without_it(
        self, number: int, flags: int, size: int
    ) -> None:
        answer, after = caller(migration=0).feature(number, flags, bytes(size))
        assert (answer.errno, after) == (errno.ENOTTY, bytes(size))

    @pytest.mark.parametrize("number", [0, 3, 10, 13, 999])
    @pytest.mark.parametrize("flags", [GET, SET, PROBE, PROBE | GET | SET])
    def test_that_no_device_has_are_enotty(self, number: int, flags: int) -> None:
        assert caller().feature(number, flags, bytes(24))[0].errno == errno.ENOTTY

    @pytest.mark.parametrize("flags", [0, GET | SET, GET | 1 << 19, PROBE | 1 << 31])
    @pytest.mark.parametrize("number", [Feature.MIGRATION, Feature.MIG_DEVICE_STATE])
    def test_need_one_operation_that_exists(self, number: int, flags: int) -> None:
        stop = abi.FEATURE_MIG_STATE.pack(abi.FeatureMigState(State.STOP, 0))
        assert caller().feature(number, flags, stop)[0].errno == errno.EINVAL

    @pytest.mark.parametrize(
        ("number", "flags"),
        [
            (Feature.MIGRATION, SET),
            (Feature.MIG_DATA_SIZE, SET),
            (Feature.MIG_PRECOPY_INFOV2, GET),
            (Feature.DMA_LOGGING_START, GET),
            (Feature.DMA_LOGGING_STOP, GET),
            (Feature.DMA_LOGGING_REPORT, SET),
        ],
    )
    def test_do_not_do_what_they_cannot(self, number: int, flags: int) -> None:
        assert caller().feature(number, flags, bytes(40))[0].errno == errno.EINVAL
        assert caller().feature(number, flags | PROBE)[0].errno == errno.EINVAL

    @pytest.mark.parametrize(
        ("number", "flags"),
        [
            (Feature.MIGRATION, GET),
            (Feature.MIG_DEVICE_STATE, SET),
            (Feature.MIG_DATA_SIZE, GET),
            (Feature.DMA_LOGGING_START, SET),
            (Feature.DMA_LOGGING_REPORT, GET),
        ],
    )
    def test_need_their_whole_structure(self, number: int, flags: int) -> None:
        vf = caller()
        assert vf.feature(number, flags, argsz=12)[0].errno == errno.EINVAL
        assert vf.feature(number, flags, argsz=7)[0].errno == errno.EINVAL
        assert vf.feature(number, flags | PROBE)[0] == Answer()


class TestDmaLogging:
    def test_reports_pages_in_the_ranges_and_leaves_bits_that_are_set(self) -> None:
        vf = caller()
        assert start_logging(vf, (0x10000, 0x10000)) == PAGE
        vf.device.wrote(0x11000, 1)
        vf.device.wrote(0x90000, 1)
        vf.memory.write(BITMAP, b"\x80" + bytes(7))
        assert report(vf, 0x10000, 0x10000) == 0
        assert vf.memory.read(BITMAP, 8) == b"\x82" + bytes(7)
        vf.memory.write(BITMAP, bytes(8))
        assert report(vf, 0x10000, 0x10000) == 0
        assert vf.memory.read(BITMAP, 8) == bytes(8)

    def test_is_started_once_and_stopped_as_often_as_one_likes(self) -> None:
        vf = caller()
        assert report(vf, 0, PAGE) == errno.EINVAL
        assert start_logging(vf, (0, PAGE)) == PAGE
        assert start_logging(vf, (0, PAGE)) == errno.EINVAL
        for _ in range(2):
            assert vf.feature(Feature.DMA_LOGGING_STOP, SET)[0] == Answer()
        assert start_logging(vf, (0, PAGE)) == PAGE

    @pytest.mark.parametrize(
        ("count", "expected"), [(0, errno.EINVAL), (257, errno.E2BIG), (1 << 31, errno.E2BIG)]
    )
    def test_takes_a_page_of_ranges(self, count: int, expected: int) -> None:
        assert start_logging(caller(), (0, PAGE), count=count) == expected

    @pytest.mark.parametrize("tracking", ["iommu", "none"])
    def test_is_there_only_where_the_device_tracks(self, tracking: str) -> None:
        vf = caller(dirty_tracking=tracking)
        assert start_logging(vf, (0, PAGE)) == errno.ENOTTY
        assert vf.feature(Feature.DMA_LOGGING_START, PROBE)[0].errno == errno.ENOTTY

    def test_outlives_a_reset(self) -> None:
        vf = caller()
        start_logging(vf, (0, PAGE))
        vf.reset()
        assert report(vf, 0, PAGE) == 0


def test_latency_is_that_of_the_state_before_that_of_the_call() -> None:
    vf = caller(
        latency=(("set-state", 1.0), ("set-state:stop", 2.0), ("data-size", 3.0), ("read", 4.0)),
        read_bandwidth=PAGE,
    )
    assert vf.set_state("running-p2p").delay_s == 1.0
    assert vf.set_state("stop").delay_s == 2.0
    assert vf.set_state("stop-copy").delay_s == 1.0
    assert vf.feature(Feature.MIG_DATA_SIZE, GET, bytes(8))[0].delay_s == 3.0
    assert vf.read().delay_s == 5.0
    assert vf.feature(Feature.MIGRATION, GET, bytes(8))[0].delay_s == 0.0


def test_the_final_precopy_info_is_the_one_that_no_data_size_precedes() -> None:
    device = Caller(Spec("vf0")).device
    calls = ["precopy-info", "data-size", "data-size", "read", "precopy-info", "precopy-info"]
    heard = [device.heard(Call(name)) for name in [*calls, "data-size", "precopy-info"]]
    assert [call.detail for call in heard] == [(), (), (), (), (), (("asked", "final"),), (), ()]


def test_each_state_can_be_asked_for_by_its_word() -> None:
    vf = caller()
    for word in ("pre-copy", "stop-copy", "stop", "resuming", "running"):
        assert vf.set_state(word).errno == 0
        assert vf.state() == state_of(word)


def test_a_call_that_memory_does_not_hold_fails_as_the_kernel_fails_it() -> None:
    vf = caller()
    call = Call("device-info", errno=errno.EFAULT)
    assert vf.device.handle(call, vf.memory, 0.0) == Answer(errno=errno.EFAULT)


def test_a_call_that_no_device_knows_is_unknown() -> None:
    vf = caller()
    with pytest.raises(Unknown, match=r"vf0.*'ioas-map'"):
        vf.device.handle(Call("ioas-map"), vf.memory, 0.0)
