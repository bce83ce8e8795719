"""A device's configuration space says what the device is, whatever is written to it."""

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.abi import Region, RegionFlag
from qmptests.vfio.pci import BAR0, COMMAND, DEVICE_CONTROL, Bars, ConfigSpace, msix_place
from qmptests.vfio.spec import Bar, Spec

READ_WRITE = RegionFlag.READ | RegionFlag.WRITE


def spec(**fields: Any) -> Spec:
    return Spec(name="vf0", **fields)


def read(config: ConfigSpace, offset: int, code: str) -> int:
    return int(struct.unpack_from("<" + code, config.image, offset)[0])


def capabilities(config: ConfigSpace) -> dict[int, int]:
    """Offsets by id, as a driver finds them."""
    found: dict[int, int] = {}
    assert read(config, 0x06, "H") & 0x10
    at = config.image[0x34]
    while at:
        assert at >= 0x40
        assert at % 4 == 0
        assert config.image[at] not in found
        found[config.image[at]] = at
        at = config.image[at + 1]
    return found


def test_the_header_says_who_the_device_is() -> None:
    config = ConfigSpace(
        spec(
            vendor_id=0x15B3,
            device_id=0x101E,
            revision=7,
            class_code=0x020000,
            subsystem_vendor_id=0x1234,
            subsystem_id=0x5678,
        )
    )
    assert struct.unpack_from("<HHHHBBBB", config.image) == (
        *(0x15B3, 0x101E, 0, 0x10),
        *(7, 0x00, 0x00, 0x02),
    )
    assert struct.unpack_from("<HH", config.image, 0x2C) == (0x1234, 0x5678)
    assert config.image[0x0E] == 0
    assert len(config.image) == 4096
    assert not any(config.image[0x100:])


@pytest.mark.parametrize("intx", [True, False])
def test_the_interrupt_pin_is_there_with_intx_alone(intx: bool) -> None:
    assert ConfigSpace(spec(intx=intx)).image[0x3D] == int(intx)


@pytest.mark.parametrize(("vectors", "ids"), [(4, {1, 0x11, 0x10}), (0, {1, 0x10})])
def test_the_capabilities_are_a_list_that_ends(vectors: int, ids: set[int]) -> None:
    assert set(capabilities(ConfigSpace(spec(msix_vectors=vectors)))) == ids


def test_it_is_an_endpoint_that_can_be_reset_by_itself() -> None:
    config = ConfigSpace(spec())
    express = capabilities(config)[0x10]
    flags = read(config, express + 2, "H")
    assert flags & 0xF == 2
    assert flags >> 4 & 0xF == 0
    assert read(config, express + 4, "I") >> 28 & 1
    assert express + 0x3C <= 0x100


def test_msix_is_in_the_upper_half_of_a_bar() -> None:
    config = ConfigSpace(spec(bars=(Bar(0, 4096), Bar(2, 0x10000)), msix_vectors=300))
    msix = capabilities(config)[0x11]
    assert read(config, msix + 2, "H") == 299
    assert read(config, msix + 4, "I") == 0x8000 | 2
    assert read(config, msix + 8, "I") == 0x8000 + 300 * 16 | 2


@given(st.integers(1, 2048), st.sampled_from([4096, 1 << 16, 1 << 17, 1 << 30]))
def test_msix_fits_into_its_bar_and_nothing_overlaps(vectors: int, size: int) -> None:
    fields = spec(bars=(Bar(1, size),), msix_vectors=vectors)
    needed = vectors * 16 + -(-vectors // 64) * 8
    if needed > size // 2:
        least = 4096
        while least // 2 < needed:
            least *= 2
        with pytest.raises(ValueError, match=rf"{vectors} MSI-X vectors need .* {least} bytes"):
            msix_place(fields)
        return
    bar, table, pending = msix_place(fields)
    assert (bar, table) == (1, size // 2)
    assert pending == table + vectors * 16
    assert pending % 8 == 0
    assert pending + -(-vectors // 64) * 8 <= size


def test_there_is_no_room_for_msix_without_bars() -> None:
    with pytest.raises(ValueError, match="4 MSI-X vectors need a BAR of 256 bytes"):
        ConfigSpace(spec(bars=()))


@pytest.mark.parametrize(
    ("bar", "kind"),
    [
        (Bar(0, 4096), 0x0),
        (Bar(5, 1 << 20, prefetchable=True), 0x8),
        (Bar(2, 1 << 16, wide=True), 0x4),
        (Bar(4, 8 << 30, wide=True, prefetchable=True), 0xC),
    ],
)
def test_a_bar_is_sized_by_writing_ones(bar: Bar, kind: int) -> None:
    config = ConfigSpace(spec(bars=(bar,), msix_vectors=0))
    at, code = BAR0 + 4 * bar.index_, "Q" if bar.wide else "I"
    width = struct.calcsize(code)
    assert read(config, at, code) == kind
    for offset in range(at, at + width, 4):
        config.write(offset, b"\xff\xff\xff\xff")
    found = read(config, at, code)
    assert found & 0xF == kind
    assert (~(found & ~0xF) & (1 << 8 * width) - 1) + 1 == bar.size
    address = (3 * bar.size) & (1 << 8 * width) - 1
    config.write(at, struct.pack("<" + code, address))
    assert read(config, at, code) == address | kind


def test_a_bar_that_is_not_there_stays_zero() -> None:
    config = ConfigSpace(spec(bars=(Bar(0, 0x10000),)))
    for at in (*range(BAR0 + 4, BAR0 + 24, 4), 0x30):
        assert config.write(at, b"\xff\xff\xff\xff") == bytes(4)


@pytest.mark.parametrize(
    ("offset", "data", "stands"),
    [
        (0x00, b"\xff\xff\xff\xff", b"\xf4\x1a\xf0\x10"),
        (COMMAND, b"\xff\xff", b"\x46\x05"),
        (COMMAND, b"\xff\xff\xff\xff", b"\x46\x05\x10\x00"),
        (0x0C, b"\x10\x40\x80", b"\x10\x00\x00"),
        (0x3C, b"\x0b\x02", b"\x0b\x01"),
        (0x44, b"\xff\xff", b"\x0b\x00"),
        (0x52, b"\xff\xff", b"\x03\x00"),
        (DEVICE_CONTROL, b"\xff\xff", b"\xff\x79"),
        (0x800, b"\xff", b"\x00"),
        (0xFFF, b"\xff", b"\x00"),
    ],
    ids=lambda value: f"{value:#x}" if isinstance(value, int) else value.hex(),
)
def test_what_a_write_leaves_behind(offset: int, data: bytes, stands: bytes) -> None:
    config = ConfigSpace(spec())
    assert config.write(offset, data) == stands
    assert config.image[offset : offset + len(data)] == stands


@pytest.mark.parametrize(("state", "then"), [(0, 0), (1, 0), (2, 0), (3, 3)])
def test_only_the_power_states_that_it_has_are_entered(state: int, then: int) -> None:
    config = ConfigSpace(spec())
    assert config.write(0x44, bytes([state]))[0] & 3 == then
    config.write(0x44, b"\3")
    assert config.write(0x44, b"\2")[0] & 3 == 3


@given(st.lists(st.tuples(st.integers(0, 4095), st.binary(max_size=64)), max_size=20))
def test_no_write_changes_what_the_device_is(writes: list[tuple[int, Any]]) -> None:
    config, fresh = ConfigSpace(spec()), ConfigSpace(spec())
    for offset, data in writes:
        before = bytes(config.image)
        if offset + len(data) > 4096:
            with pytest.raises(OSError, match="no configuration space") as caught:
                config.write(offset, data)
            assert caught.value.errno == errno.EFAULT
            assert config.image == before
            continue
        stands = config.write(offset, data)
        assert stands == config.image[offset : offset + len(data)]
        assert config.image[:offset] == before[:offset]
        assert config.image[offset + len(data) :] == before[offset + len(data) :]
    changing = {0x04, 0x05, 0x0C, 0x12, 0x13, 0x3C, 0x44, DEVICE_CONTROL, DEVICE_CONTROL + 1}
    changed = {at for at in range(4096) if config.image[at] != fresh.image[at]}
    assert changed <= changing


@pytest.mark.parametrize(
    ("offset", "data", "asks"),
    [
        (DEVICE_CONTROL, b"\x10\xa8", True),
        (DEVICE_CONTROL + 1, b"\x80", True),
        (DEVICE_CONTROL - 2, b"\0\0\0\x80", True),
        (DEVICE_CONTROL, b"\x10\x28", False),
        (DEVICE_CONTROL, b"\x80", False),
        (DEVICE_CONTROL + 2, b"\x80\x80", False),
    ],
)
def test_a_function_level_reset_is_asked_for_by_one_bit(
    offset: int, data: bytes, asks: bool
) -> None:
    assert ConfigSpace.is_reset(offset, data) is asks
    assert not ConfigSpace(spec()).write(DEVICE_CONTROL, b"\0\x80")[1] & 0x80


def test_regions_are_those_of_the_bars_and_of_the_configuration_space() -> None:
    bars = Bars(
        spec(bars=(Bar(0, 0x10000), Bar(1, 1 << 20, mmap=False), Bar(2, 1 << 30, wide=True)))
    )
    found = [bars.region_info(index) for index in Region]
    mapped = READ_WRITE | RegionFlag.MMAP
    assert found == [
        *((mapped, 0x10000), (READ_WRITE, 1 << 20), (mapped, 1 << 30), (0, 0)),
        *((0, 0), (0, 0), (0, 0), (READ_WRITE, 4096), (0, 0)),
    ]
