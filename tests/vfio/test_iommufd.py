"""An iommufd answers as Linux's: each call goes through memory, as QEMU makes it."""

import contextlib
import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi, calls
from qmptests.vfio.abi import HwptFlag, Iommu, Layout, MapFlag
from qmptests.vfio.iommu import Bound, PageTable
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.iova import LAST, Mapping

PAGE = 4096
BASE = 0x7F00_0000_0000
ROOM = BASE + 0x1000
RW = MapFlag.FIXED_IOVA | MapFlag.READABLE | MapFlag.WRITEABLE
BELOW_MSI, ABOVE_MSI = (0, 0xFEDFFFFF), (0xFEF00000, (1 << 48) - 1)


class File:
    """What is mapped by IOAS_MAP_FILE. `refusal`: the errno with which it can't be pinned."""

    is_file = True

    def __init__(self) -> None:
        self.refusal = 0
        self.pinned: list[tuple[int, int, bool]] = []

    def pin(self, offset: int, length: int, *, writable: bool) -> None:
        if self.refusal:
            raise OSError(self.refusal, "not to be pinned")
        self.pinned.append((offset, length, writable))

    def read(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def write(self, offset: int, data: bytes) -> None:
        raise NotImplementedError


FILE, FILE_NUMBER = File(), 17


class Memory:
    """64 KiB of QEMU's memory from BASE on, and one file."""

    def __init__(self) -> None:
        self.data = bytearray(1 << 16)
        self.writes: list[tuple[int, int]] = []

    def _at(self, address: int, length: int) -> slice:
        if not BASE <= address <= address + length <= BASE + len(self.data):
            raise OSError(errno.EFAULT, "not mapped")
        return slice(address - BASE, address - BASE + length)

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.data[self._at(address, length)])

    def write(self, address: int, data: bytes) -> None:
        self.data[self._at(address, len(data))] = data
        self.writes.append((address, len(data)))

    def source(self) -> None:
        """Its memory can always be pinned."""

    def file(self, number: int, end: int) -> File:  # noqa: ARG002
        if number != FILE_NUMBER:
            raise OSError(errno.EBADF, "not open")
        return FILE

    def descriptor(self, number: int) -> int:
        raise NotImplementedError

    def is_iommufd(self, number: int) -> bool:
        raise NotImplementedError


class Qemu:
    """Asks, and has what the kernel wrote back: the errno, and the structure."""

    def __init__(self) -> None:
        self.iommufd = Iommufd()
        self.memory = Memory()
        self.answer = calls.Answer()

    def ask(self, request: Iommu, layout: Layout[Any], size: int = 0, **fields: int) -> Any:
        zero = layout.record._make([0] * len(layout.fields))
        record = zero._replace(size=size or layout.size, **fields)
        self.memory.data[: layout.size] = layout.pack(record)
        self.memory.writes.clear()
        call = calls.decode("iommufd", request, BASE, self.memory)
        self.answer = self.iommufd.handle(call, self.memory, 0.0)
        assert all(
            address != BASE or length <= record.size for address, length in self.memory.writes
        )
        return layout.unpack(bytes(self.memory.data[: record.size]))

    def done(self, request: Iommu, layout: Layout[Any], **fields: int) -> Any:
        record = self.ask(request, layout, 0, **fields)
        assert not self.answer.errno, errno.errorcode[self.answer.errno]
        return record

    def fails(self, number: int, request: Iommu, layout: Layout[Any], **fields: int) -> Any:
        record = self.ask(request, layout, 0, **fields)
        assert self.answer.errno == number, errno.errorcode.get(self.answer.errno, "no error")
        return record

    # --- what it asks most ---

    def ioas(self) -> int:
        return int(self.done(Iommu.IOAS_ALLOC, abi.IOAS_ALLOC).out_ioas_id)

    def hwpt(self, dev: int, pt: int, flags: int = 0) -> int:
        record = self.done(Iommu.HWPT_ALLOC, abi.HWPT_ALLOC, dev_id=dev, pt_id=pt, flags=flags)
        return int(record.out_hwpt_id)

    def map(self, ioas: int, iova: int, length: int, va: int, flags: int = RW) -> int:
        self.ask(
            Iommu.IOAS_MAP,
            abi.IOAS_MAP,
            ioas_id=ioas,
            iova=iova,
            length=length,
            user_va=va,
            flags=flags,
        )
        return self.answer.errno

    def unmap(self, ioas: int, iova: int, length: int) -> int | str:
        """Bytes unmapped, or the error's name."""
        record = self.ask(Iommu.IOAS_UNMAP, abi.IOAS_UNMAP, ioas_id=ioas, iova=iova, length=length)
        return int(record.length) if not self.answer.errno else errno.errorcode[self.answer.errno]

    def destroy(self, number: int) -> int:
        self.ask(Iommu.DESTROY, abi.DESTROY, id=number)
        return self.answer.errno

    def ranges(self, ioas: int, room: int) -> Any:
        return self.ask(
            Iommu.IOAS_IOVA_RANGES,
            abi.IOVA_RANGES,
            ioas_id=ioas,
            num_iovas=room,
            allowed_iovas=ROOM,
        )

    def track(self, hwpt: int, flags: int) -> int:
        self.ask(Iommu.HWPT_SET_DIRTY_TRACKING, abi.DIRTY_TRACKING, hwpt_id=hwpt, flags=flags)
        return self.answer.errno

    def bitmap(
        self, hwpt: int, iova: int, length: int, flags: int = 0, page_size: int = PAGE
    ) -> int:
        """All 64 bits of the first word at ROOM; the errno is in the answer."""
        self.ask(
            Iommu.HWPT_GET_DIRTY_BITMAP,
            abi.DIRTY_BITMAP,
            hwpt_id=hwpt,
            iova=iova,
            length=length,
            page_size=page_size,
            flags=flags,
            data=ROOM,
        )
        return int.from_bytes(self.memory.read(ROOM, 8), "little")


@pytest.fixture
def qemu() -> Qemu:
    return Qemu()


def refusal(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


def test_ids_are_the_lowest_free_ones_of_any_kind(qemu: Qemu) -> None:
    assert qemu.iommufd.bind("vf0", dirty_tracking=False) == 1
    assert qemu.ioas() == 2
    assert qemu.hwpt(1, 2) == 3
    assert qemu.destroy(3) == 0
    assert qemu.ioas() == 3


def test_a_device_is_set_up_as_qemu_does_it(qemu: Qemu) -> None:
    dev = qemu.iommufd.bind("vf0", dirty_tracking=True)
    ioas = qemu.ioas()
    hwpt = qemu.hwpt(dev, ioas, HwptFlag.DIRTY_TRACKING)
    assert qemu.iommufd.attach(dev, hwpt) == hwpt
    first = qemu.ranges(ioas, 0)
    assert (qemu.answer.errno, first.num_iovas, first.out_iova_alignment) == (
        errno.EMSGSIZE,
        2,
        PAGE,
    )
    qemu.ranges(ioas, 2)
    assert qemu.answer.errno == 0
    found = [abi.IOVA_RANGE.unpack(qemu.memory.read(ROOM + at, 16)) for at in (0, 16)]
    assert found == [BELOW_MSI, ABOVE_MSI]
    assert qemu.map(ioas, 0, 8 << 30, BASE) == errno.EINVAL  # MSIs are in the way
    assert qemu.map(ioas, 0, 3 << 30, BASE) == 0
    assert qemu.iommufd.mappings(dev) == [Mapping(0, 3 << 30, BASE)]


def test_ranges_fill_what_room_there_is(qemu: Qemu) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=True), qemu.ioas()
    qemu.iommufd.attach(dev, ioas)
    assert qemu.ranges(ioas, 1).num_iovas == 2
    assert qemu.answer.errno == errno.EMSGSIZE
    assert qemu.memory.read(ROOM, 32) == abi.IOVA_RANGE.pack(abi.IovaRange(*BELOW_MSI)) + bytes(16)


def test_the_ranges_narrow_and_widen_with_what_uses_the_address_space(qemu: Qemu) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=True), qemu.ioas()

    def narrowed() -> tuple[int, int, int]:
        record = qemu.ranges(ioas, 2)
        last = abi.IOVA_RANGE.unpack(qemu.memory.read(ROOM, 16)).last
        return record.num_iovas, record.out_iova_alignment, last

    assert narrowed() == (1, 1, LAST)
    hwpt = qemu.hwpt(dev, ioas)
    assert narrowed() == (1, PAGE, (1 << 48) - 1)
    qemu.iommufd.attach(dev, hwpt)
    assert narrowed() == (2, PAGE, BELOW_MSI[1])
    qemu.iommufd.attach(dev, ioas)
    assert narrowed() == (2, PAGE, BELOW_MSI[1])
    qemu.iommufd.detach(dev)
    assert narrowed() == (1, PAGE, (1 << 48) - 1)
    qemu.destroy(hwpt)
    assert narrowed() == (1, 1, LAST)


def test_a_device_does_not_attach_where_its_interrupts_are_mapped(qemu: Qemu) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=False), qemu.ioas()
    assert qemu.map(ioas, 0xFEE00000, PAGE, BASE) == 0
    with refusal(errno.EADDRINUSE):
        qemu.iommufd.attach(dev, ioas)
    assert qemu.iommufd.mappings(dev) == []


def test_hardware_information_tells_of_dirty_tracking_alone(qemu: Qemu) -> None:
    for dirty in (False, True):
        dev = qemu.iommufd.bind("vf", dirty_tracking=dirty)
        qemu.memory.data[0x1000:0x1028] = b"\xff" * 0x28
        info = qemu.done(Iommu.GET_HW_INFO, abi.HW_INFO, dev_id=dev, data_len=0x20, data_uptr=ROOM)
        assert info.out_capabilities == int(dirty)
        assert (info.data_len, info.out_data_type, info.out_max_pasid_log2) == (0, 0, 0)
        assert qemu.memory.read(ROOM, 0x28) == bytes(0x20) + b"\xff" * 8


def test_an_older_caller_gets_as_much_as_it_has(qemu: Qemu) -> None:
    dev = qemu.iommufd.bind("vf0", dirty_tracking=True)
    size = abi.HW_INFO.until("reserved_2")
    qemu.memory.data[size : size + 16] = b"\xee" * 16
    qemu.ask(Iommu.GET_HW_INFO, abi.HW_INFO, size, dev_id=dev)
    assert qemu.answer.errno == 0
    assert qemu.memory.writes == [(BASE, size)]


@pytest.mark.parametrize("flags", [0, HwptFlag.DIRTY_TRACKING])
def test_dirty_bits_need_an_iommu_that_has_them(qemu: Qemu, flags: int) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=False), qemu.ioas()
    expected = errno.EOPNOTSUPP if flags else 0
    qemu.ask(Iommu.HWPT_ALLOC, abi.HWPT_ALLOC, dev_id=dev, pt_id=ioas, flags=flags)
    assert qemu.answer.errno == expected


def test_a_device_without_dirty_bits_does_not_join_a_page_table_with_them(qemu: Qemu) -> None:
    able = qemu.iommufd.bind("vf0", dirty_tracking=True)
    other = qemu.iommufd.bind("vf1", dirty_tracking=False)
    ioas = qemu.ioas()
    hwpt = qemu.hwpt(able, ioas, HwptFlag.DIRTY_TRACKING)
    with refusal(errno.EINVAL):
        qemu.iommufd.attach(other, hwpt)
    assert qemu.iommufd.attach(other, qemu.hwpt(other, ioas)) == hwpt + 1


def test_devices_on_an_address_space_share_its_own_page_table(qemu: Qemu) -> None:
    first, second = (qemu.iommufd.bind(n, dirty_tracking=True) for n in ("vf0", "vf1"))
    ioas = qemu.ioas()
    hwpt = qemu.iommufd.attach(first, ioas)
    assert qemu.iommufd.attach(second, ioas) == qemu.iommufd.attach(first, ioas) == hwpt
    qemu.iommufd.detach(first)
    assert qemu.destroy(hwpt) == errno.EBUSY
    qemu.iommufd.detach(second)
    assert qemu.destroy(hwpt) == errno.ENOENT
    assert qemu.destroy(ioas) == 0


def test_what_is_in_use_is_not_destroyed(qemu: Qemu) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=True), qemu.ioas()
    hwpt = qemu.hwpt(dev, ioas)
    qemu.iommufd.attach(dev, hwpt)
    assert [qemu.destroy(n) for n in (dev, ioas, hwpt, 99)] == [*[errno.EBUSY] * 3, errno.ENOENT]
    qemu.iommufd.detach(dev)
    assert qemu.destroy(ioas) == errno.EBUSY
    assert [qemu.destroy(n) for n in (hwpt, ioas, ioas)] == [0, 0, errno.ENOENT]
    qemu.iommufd.unbind(dev)
    with refusal(errno.ENOENT):
        qemu.iommufd.unbind(dev)


def test_attaching_to_what_is_none_is_refused(qemu: Qemu) -> None:
    dev = qemu.iommufd.bind("vf0", dirty_tracking=True)
    for pt, number in ((99, errno.ENOENT), (dev, errno.EINVAL)):
        with refusal(number):
            qemu.iommufd.attach(dev, pt)
    with refusal(errno.ENOENT):
        qemu.iommufd.attach(99, qemu.ioas())


def test_mappings_are_those_of_the_whole_address_space_of_a_device(qemu: Qemu) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=False), qemu.ioas()
    assert qemu.map(ioas, 0, 2 * PAGE, BASE) == 0
    qemu.done(
        Iommu.IOAS_MAP_FILE,
        abi.IOAS_MAP_FILE,
        ioas_id=ioas,
        flags=MapFlag.FIXED_IOVA | MapFlag.READABLE,
        fd=FILE_NUMBER,
        start=0x10000,
        length=PAGE,
        iova=2 * PAGE,
    )
    with refusal(errno.EFAULT):
        qemu.iommufd.translate(dev, 0, 1)
    qemu.iommufd.attach(dev, ioas)
    assert qemu.iommufd.translate(dev, PAGE, PAGE + 8) == [
        Mapping(PAGE, PAGE, BASE + PAGE),
        Mapping(2 * PAGE, 8, 0x10000, writable=False, source=FILE, pages_writable=False),
    ]
    with refusal(errno.EFAULT):
        qemu.iommufd.translate(dev, 2 * PAGE, PAGE + 1)


def test_a_mapping_without_a_wish_gets_an_iova(qemu: Qemu) -> None:
    ioas = qemu.ioas()
    record = qemu.done(
        Iommu.IOAS_MAP, abi.IOAS_MAP, ioas_id=ioas, flags=MapFlag.READABLE, length=PAGE, iova=77
    )
    assert record.iova == PAGE
    assert qemu.answer.detail == (("mapped", PAGE),)


def test_unmapping_takes_whole_mappings_and_says_how_much(qemu: Qemu) -> None:
    ioas = qemu.ioas()
    for iova in (0, PAGE, 4 * PAGE):
        qemu.map(ioas, iova, PAGE, BASE)
    assert qemu.unmap(ioas, 0, 4 * PAGE) == 2 * PAGE
    assert qemu.unmap(ioas, 0, 4 * PAGE) == "ENOENT"
    assert qemu.unmap(ioas, 4 * PAGE, PAGE // 2) == "ENOENT"
    assert qemu.unmap(ioas, 0, 0) == "EINVAL"
    assert qemu.unmap(ioas, 1, LAST) == "EOVERFLOW"
    assert qemu.unmap(ioas, LAST - 1, 3) == "EOVERFLOW"
    assert qemu.unmap(ioas, 0, LAST) == PAGE
    assert qemu.unmap(ioas, 0, LAST) == 0
    assert qemu.unmap(99, 0, LAST) == "ENOENT"


@pytest.mark.parametrize(
    ("number", "wish"),
    [
        (errno.ENOENT, {"ioas_id": 99}),
        (errno.EOPNOTSUPP, {"flags": RW | 8}),
        (errno.EOPNOTSUPP, {"reserved": 1}),
        (errno.EINVAL, {"flags": MapFlag.FIXED_IOVA}),
        (errno.EINVAL, {"length": 0}),
        (errno.EINVAL, {"iova": 1}),
        (errno.EINVAL, {"iova": 1 << 48}),
        (errno.EEXIST, {"iova": PAGE}),
        (errno.EOVERFLOW, {"iova": LAST}),
        (errno.EOVERFLOW, {"length": LAST}),
        (errno.EOVERFLOW, {"iova": LAST + 1 - PAGE, "length": 2 * PAGE}),
    ],
)
def test_mappings_that_are_refused(qemu: Qemu, number: int, wish: dict[str, int]) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=False), qemu.ioas()
    qemu.hwpt(dev, ioas)
    qemu.map(ioas, PAGE, PAGE, BASE)
    fields = {"ioas_id": ioas, "flags": RW, "iova": 2 * PAGE, "length": PAGE, "user_va": BASE}
    qemu.fails(number, Iommu.IOAS_MAP, abi.IOAS_MAP, **{**fields, **wish})


@pytest.mark.parametrize(
    ("number", "wish"),
    [
        (errno.ENOENT, {"dev_id": 99}),
        (errno.ENOENT, {"dev_id": 2}),
        (errno.EINVAL, {"pt_id": 99}),
        (errno.EINVAL, {"pt_id": 1}),
        (errno.EINVAL, {"data_len": 8}),
        (errno.EINVAL, {"data_type": 1}),
        (errno.EOPNOTSUPP, {"data_type": 1, "data_len": 8}),
        (errno.EOPNOTSUPP, {"pt_id": 3}),
        (errno.EOPNOTSUPP, {"flags": HwptFlag.NEST_PARENT}),
        (errno.EOPNOTSUPP, {"flags": HwptFlag.PASID}),
        (errno.EOPNOTSUPP, {"flags": 1 << 4}),
        (errno.ENOENT, {"flags": HwptFlag.FAULT_ID_VALID}),
        (errno.EOPNOTSUPP, {"reserved": 1}),
    ],
)
def test_page_tables_that_are_refused(qemu: Qemu, number: int, wish: dict[str, int]) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=True), qemu.ioas()
    assert (dev, ioas, qemu.hwpt(dev, ioas)) == (1, 2, 3)
    fields = {"dev_id": dev, "pt_id": ioas, **wish}
    qemu.fails(number, Iommu.HWPT_ALLOC, abi.HWPT_ALLOC, **fields)
    assert qemu.ioas() == 4


def test_flags_that_nobody_knows_are_not_supported(qemu: Qemu) -> None:
    for request, layout in (
        (Iommu.IOAS_ALLOC, abi.IOAS_ALLOC),
        (Iommu.GET_HW_INFO, abi.HW_INFO),
        (Iommu.HWPT_SET_DIRTY_TRACKING, abi.DIRTY_TRACKING),
        (Iommu.HWPT_GET_DIRTY_BITMAP, abi.DIRTY_BITMAP),
    ):
        qemu.fails(errno.EOPNOTSUPP, request, layout, flags=1 << 31)


def test_a_call_that_the_kernel_would_refuse_is_refused(qemu: Qemu) -> None:
    qemu.ask(Iommu.IOAS_ALLOC, abi.IOAS_ALLOC, 8)
    assert qemu.answer.errno == errno.EINVAL
    qemu.memory.data[12] = 1
    qemu.ask(Iommu.IOAS_ALLOC, abi.IOAS_ALLOC, 16)
    assert qemu.answer.errno == errno.E2BIG
    assert qemu.ioas() == 1


def test_what_can_not_be_written_back_is_not_made(qemu: Qemu) -> None:
    """The structure lies where QEMU can be read but not written."""
    record = abi.IoasAlloc(12, 0, 0)
    call = calls.Call("ioas-alloc", ROOM << 8, record, ROOM << 8, 12)
    answer = qemu.iommufd.handle(call, qemu.memory, 0.0)
    assert answer.errno == errno.EFAULT
    assert qemu.ioas() == 1


# --- dirty bits ---------------------------------------------------------------------------------


@pytest.fixture
def tracked(qemu: Qemu) -> tuple[Qemu, int, int, int]:
    """A device with dirty bits that are on, its page table, and 16 pages from 0."""
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=True), qemu.ioas()
    hwpt = qemu.hwpt(dev, ioas, HwptFlag.DIRTY_TRACKING)
    qemu.iommufd.attach(dev, hwpt)
    qemu.map(ioas, 0, 8 * PAGE, BASE)
    qemu.map(ioas, 8 * PAGE, 8 * PAGE, BASE)
    assert qemu.track(hwpt, 1) == 0
    return qemu, dev, ioas, hwpt


def test_writes_of_a_device_are_seen_once(tracked: tuple[Qemu, int, int, int]) -> None:
    qemu, dev, _, hwpt = tracked
    qemu.iommufd.record(dev, 7 * PAGE, 2 * PAGE)
    assert qemu.bitmap(hwpt, 0, 16 * PAGE, abi.DIRTY_BITMAP_NO_CLEAR) == 0b1_1000_0000
    qemu.memory.data[0x1000:0x1008] = bytes(8)
    assert qemu.bitmap(hwpt, 4 * PAGE, 8 * PAGE) == 0b1_1000
    qemu.memory.data[0x1000:0x1008] = bytes(8)
    assert qemu.bitmap(hwpt, 0, 16 * PAGE) == 0
    assert qemu.answer.errno == 0


def test_tracking_begins_clean_and_ends(tracked: tuple[Qemu, int, int, int]) -> None:
    qemu, dev, _, hwpt = tracked
    qemu.iommufd.record(dev, 0, PAGE)
    assert qemu.track(hwpt, 1) == 0
    assert qemu.bitmap(hwpt, 0, PAGE) == 0
    qemu.iommufd.record(dev, 0, PAGE)
    assert qemu.track(hwpt, 0) == 0
    assert qemu.bitmap(hwpt, 0, PAGE) == 0
    assert qemu.answer.errno == 0


def test_what_is_mapped_anew_is_clean(tracked: tuple[Qemu, int, int, int]) -> None:
    qemu, dev, ioas, hwpt = tracked
    qemu.iommufd.record(dev, 0, 16 * PAGE)
    qemu.unmap(ioas, 0, 8 * PAGE)
    qemu.map(ioas, 0, 8 * PAGE, BASE)
    assert qemu.bitmap(hwpt, 0, 16 * PAGE) == 0xFF00


def test_a_device_elsewhere_leaves_no_dirty_bits(tracked: tuple[Qemu, int, int, int]) -> None:
    qemu, dev, ioas, hwpt = tracked
    other = qemu.iommufd.bind("vf1", dirty_tracking=True)
    qemu.iommufd.attach(other, ioas)
    qemu.iommufd.record(other, 0, PAGE)
    qemu.iommufd.detach(dev)
    qemu.iommufd.record(dev, 0, PAGE)
    assert qemu.bitmap(hwpt, 0, PAGE) == 0


@pytest.mark.parametrize(
    ("number", "iova", "length", "page_size"),
    [
        (errno.EINVAL, 0, PAGE // 2, PAGE),
        (errno.EINVAL, PAGE // 2, PAGE, PAGE),
        (errno.EINVAL, PAGE, 2 * PAGE, 2 * PAGE),
        (errno.EINVAL, 0, PAGE, 0),
        (errno.EINVAL, 0, 3 * PAGE, 3 * PAGE),
        (errno.EOVERFLOW, LAST, 2 * PAGE, PAGE),
        (errno.EINVAL, LAST, 0, PAGE),
    ],
)
def test_bitmaps_that_are_refused(
    tracked: tuple[Qemu, int, int, int], number: int, iova: int, length: int, page_size: int
) -> None:
    qemu, dev, _, hwpt = tracked
    qemu.iommufd.record(dev, 0, 16 * PAGE)
    assert qemu.bitmap(hwpt, iova, length, 0, page_size) == 0
    assert qemu.answer.errno == number


def test_a_page_table_without_dirty_bits_can_not_be_asked(qemu: Qemu) -> None:
    dev, ioas = qemu.iommufd.bind("vf0", dirty_tracking=True), qemu.ioas()
    hwpt = qemu.hwpt(dev, ioas)
    qemu.map(ioas, 0, PAGE, BASE)
    assert qemu.track(hwpt, 1) == errno.EOPNOTSUPP
    qemu.bitmap(hwpt, 0, PAGE)
    assert qemu.answer.errno == errno.EOPNOTSUPP
    assert qemu.track(ioas, 1) == errno.ENOENT


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ioas", "hwpt", "bind", "attach", "detach", "destroy", "unbind"]),
            st.integers(1, 8),
            st.integers(1, 8),
        ),
        max_size=40,
    )
)
def test_nothing_that_is_used_ever_goes_away(steps: list[Any]) -> None:
    """Whatever the order: a device's page table exists, and so does that one's address space."""
    qemu = Qemu()
    iommufd = qemu.iommufd
    for what, one, other in steps:
        with contextlib.suppress(OSError):
            match what:
                case "ioas":
                    qemu.ioas()
                case "hwpt":
                    qemu.ask(Iommu.HWPT_ALLOC, abi.HWPT_ALLOC, dev_id=one, pt_id=other)
                case "bind":
                    iommufd.bind("vf", dirty_tracking=True)
                case "attach":
                    iommufd.attach(one, other)
                case "destroy":
                    qemu.destroy(one)
                case _:
                    getattr(iommufd, what)(one)
        things = iommufd.objects.values()
        used = [thing.table for thing in things if isinstance(thing, Bound) and thing.table]
        assert all(isinstance(iommufd.objects[number], PageTable) for number in used)
        for number, thing in iommufd.objects.items():
            if isinstance(thing, PageTable):
                assert thing.ioas in things
                assert not thing.automatic or number in used
                assert len(thing.ioas.space.usable()) == 2 or number not in used
