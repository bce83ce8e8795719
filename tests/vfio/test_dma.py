"""A device writes pages that can be told apart where QEMU has mapped memory, and finds them."""

import ctypes
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.vfio import abi
from qmptests.vfio.abi import Iommu, MapFlag, State
from qmptests.vfio.device import Device
from qmptests.vfio.dma import ABLE, Dma, Pages
from qmptests.vfio.profile import VfioProfile, to_spec
from qmptests.vfio.spec import Spec
from qmptests.vfio.when import When
from tests.vfio.caller import PAGE, Caller

#: Eight devices with 16 pages each, from 1 MiB on.
WINDOW = (1 << 20, 8 * 16 * PAGE)
SIZE = WINDOW[1]


class Guest:
    """A device, and memory of this process that is mapped for it as QEMU's is."""

    def __init__(self, *, number: int = 0, shared: bool = False, flags: int = 7) -> None:
        spec = Spec("vf0", seed=5, dma_window=WINDOW)
        self.file = os.memfd_create("guest")
        os.truncate(self.file, SIZE)
        self.ram = mmap.mmap(self.file, SIZE)
        self.vf = Caller(spec)
        iommufd, device = self.vf.iommufd, self.vf.device
        record = abi.IoasAlloc(abi.IOAS_ALLOC.size, 0, 0)
        _, ioas = self.vf.ask(Iommu.IOAS_ALLOC, abi.IOAS_ALLOC, record, "iommufd")
        iommufd.attach(device.devid, ioas.out_ioas_id)
        self.ioas = ioas.out_ioas_id
        self.map(flags, shared=shared)
        self.dma = self.another(device, number)
        self.pages = self.dma.pages

    def another(self, device: Device, number: int = 0) -> Dma:
        """The DMA of a device that sees the same memory."""
        return Dma(device, number)

    def map(self, flags: int, *, shared: bool) -> None:
        """As QEMU does it: its own memory, or the file that is that memory."""
        if shared:
            fields: dict[str, Any] = {"fd": self.file, "start": 0}
            request = Iommu.IOAS_MAP_FILE
            layout: abi.Layout[Any] = abi.IOAS_MAP_FILE
        else:
            address = ctypes_address(self.ram)
            fields = {"user_va": address, "reserved": 0}
            request, layout = Iommu.IOAS_MAP, abi.IOAS_MAP
        blank = layout.unpack(bytes(layout.size))
        record = blank._replace(
            size=layout.size,
            flags=flags,
            ioas_id=self.ioas,
            length=SIZE,
            iova=WINDOW[0],
            **fields,
        )
        assert self.vf.ask(request, layout, record, "iommufd")[0].errno == 0

    def at(self, page: int) -> bytes:
        """What stands in a page of the device's."""
        begin = self.pages.address(page) - WINDOW[0]
        return self.ram[begin : begin + PAGE]

    def find(self, dma: Dma | None = None) -> Any:
        """What a device that arrives here finds."""
        found = dma or self.another(self.vf.device)
        found.begin_look()
        found.finish_look()
        return found.found


def ctypes_address(ram: mmap.mmap) -> int:
    """Where a map lies in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(ram))


@pytest.fixture(params=[False, True], ids=["memory", "file"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    made = Guest(shared=request.param)
    yield made
    os.close(made.file)


def test_what_is_written_is_found(guest: Guest) -> None:
    guest.dma.write(5)
    guest.dma.write(5)
    assert guest.dma.written is not None
    assert guest.find() == guest.dma.written
    assert guest.dma.written["bursts"] == 2
    assert set(guest.dma.written["runs"].replace("*", " ").split()) >= {"0", "1", "2"}


def test_nothing_is_found_where_nothing_was_written(guest: Guest) -> None:
    assert guest.dma.written is None
    assert guest.find()["pages"] == 0


def test_a_damaged_page_is_not_taken_for_a_right_one(guest: Guest) -> None:
    guest.dma.write(guest.pages.count)
    begin = guest.pages.address(3) - WINDOW[0]
    guest.ram[begin + 100] ^= 1
    found = guest.find()
    assert found["pages"] == guest.pages.count - 1
    assert found["problems"][0].startswith(
        f"page {guest.pages.address(3):#x} of burst 1: byte 100 is"
    )


@pytest.mark.parametrize("length", [0, 5, SIZE // 16 - 3])
def test_a_file_that_ends_before_what_is_mapped(length: int) -> None:
    """The program has shortened it since."""
    guest = Guest(shared=True)
    guest.dma.write(2)
    os.truncate(guest.file, length)
    (problem,) = guest.find()["problems"]
    assert problem.endswith("can't be read: the file that was mapped ends before")
    os.close(guest.file)


def test_a_page_at_the_place_of_another_is_told(guest: Guest) -> None:
    guest.dma.write(guest.pages.count)
    begin = guest.pages.address(3) - WINDOW[0]
    guest.ram[begin : begin + PAGE] = guest.at(4)
    places = guest.pages.address(3), guest.pages.address(4)
    words = "page {:#x} holds what was written to {:#x}".format(*places)
    assert guest.find()["problems"] == [words]


def test_pages_of_another_device_or_seed_are_none_of_its_own() -> None:
    guest = Guest()
    guest.dma.write(4)
    other = Caller(Spec("vf0", seed=6, dma_window=WINDOW)).device
    dma = guest.another(guest.vf.device)
    dma.pages = Pages(other.spec, 0)
    found = guest.find(dma)
    assert (found["pages"], found["problems"]) == (0, [])


def test_devices_keep_to_their_own_parts() -> None:
    """The window is theirs together, without a gap and without an overlap."""
    spec = Spec("vf0", dma_window=WINDOW)
    parts = [Pages(spec, number) for number in range(8)]
    addresses = [part.address(page) for part in parts for page in range(part.count)]
    assert addresses == list(range(WINDOW[0], WINDOW[0] + SIZE, PAGE))


@given(count=st.integers(1, 16), burst=st.integers(1, 1 << 40), seed=st.integers(0, 1 << 60))
def test_a_burst_is_as_many_different_pages_as_were_asked_for(
    count: int, burst: int, seed: int
) -> None:
    pages = Pages(Spec("vf0", seed=seed, dma_window=WINDOW), 3)
    chosen = pages.choose(count, burst)
    assert len(set(chosen)) == count
    assert set(chosen) <= set(range(16))
    assert chosen == pages.choose(count, burst)


@given(st.dictionaries(st.integers(0, 15), st.integers(1, 99)))
def test_runs_say_of_each_page_which_burst_it_is(bursts: dict[int, int]) -> None:
    each: list[int] = []
    for run in Pages(Spec("vf0", dma_window=WINDOW), 0).runs(bursts).split():
        burst, _, count = run.partition("*")
        each += [int(burst)] * int(count or 1)
    assert each == [bursts.get(page, 0) for page in range(16)]


def dirty(guest: Guest) -> list[int]:
    """The pages that the device's own log has, which it forgets."""
    found = []
    log = guest.vf.device.features.dirty_pages
    for offset, words in log.dirty_words(guest.pages.start, 16 * PAGE, PAGE):
        bits = int.from_bytes(words, "little")
        found += [offset * 8 + n for n in range(64 * 8) if bits >> n & 1]
    return found


def test_the_pages_that_are_reported_are_those_that_were_written() -> None:
    guest = Guest()
    guest.vf.device.features.dirty_pages.start()
    guest.dma.write(5)
    assert dirty(guest) == sorted(guest.pages.choose(5, 1))
    guest.dma.write(5, tell=False)
    assert dirty(guest) == []
    assert guest.find()["bursts"] == 2


@pytest.mark.parametrize("state", list(State))
def test_a_device_that_is_stopped_reaches_no_memory(state: State) -> None:
    guest = Guest()
    guest.vf.device.features.state = state
    if state in ABLE:
        guest.dma.write(1)
        assert guest.dma.written
    else:
        with pytest.raises(ValueError, match="there is no DMA in the state"):
            guest.dma.write(1)
        assert not any(guest.ram[:])


def test_what_is_not_mapped_or_not_writable_is_refused() -> None:
    guest = Guest(flags=int(MapFlag.FIXED_IOVA | MapFlag.READABLE))
    with pytest.raises(ValueError, match=r"DMA to 0x10.000 failed: .* is mapped to read only"):
        guest.dma.write(1)
    guest.vf.iommufd.detach(guest.vf.device.devid)
    with pytest.raises(ValueError, match=r"DMA to 0x10.000 failed: .* mapped"):
        guest.dma.write(1)
    assert not any(guest.ram[:])
    guest.dma.begin_look()
    assert not guest.dma.looking
    with pytest.raises(ValueError, match="its window for DMA has 16 pages, not 17"):
        guest.dma.write(17)


def test_it_looks_before_it_overwrites() -> None:
    """And goes on to count where its like has stopped."""
    guest = Guest()
    guest.dma.write(16)
    arrived = guest.another(guest.vf.device)
    arrived.begin_look()
    assert arrived.looking
    arrived.write(16)
    assert arrived.found is not None
    assert arrived.found["runs"] == "1*16"
    assert arrived.written is not None
    assert arrived.written["runs"] == "2*16"


def test_a_look_that_was_not_finished_finds_nothing() -> None:
    guest = Guest()
    guest.dma.write(1)
    arrived = guest.another(guest.vf.device)
    assert arrived.found is None
    arrived.begin_look()
    assert arrived.found is None


class TestWindow:
    def test_is_in_numbers_in_the_spec(self) -> None:
        assert to_spec(VfioProfile(), "vf0", 0).dma_window == (64 << 20, 32 << 20)
        wanted = VfioProfile(dma_window="1M+32K")
        assert to_spec(wanted, "vf0", 0).dma_window == (1 << 20, 32 << 10)

    @pytest.mark.parametrize("text", ["64M", "64M+", "64M+4K", "1+32K", "64M+128M", "64M+0"])
    def test_must_have_a_page_for_each_device(self, text: str) -> None:
        with pytest.raises(InputError, match=r"vfio\.dma_window: "):
            VfioProfile(dma_window=text)

    @pytest.mark.parametrize("do", ["dma=1025", "dma=0", "dma-unreported=1025"])
    def test_limits_what_a_rule_can_ask_for(self, do: str) -> None:
        with pytest.raises(InputError, match="its part of dma_window has 1024 pages, not"):
            VfioProfile(when=[When("read", do)])
