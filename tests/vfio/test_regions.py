"""What can be read, written and mapped of a device is what vfio-pci lets through."""

import errno
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.abi import Region
from qmptests.vfio.pci import COMMAND, PM_CONTROL, Bars, ConfigSpace
from qmptests.vfio.regions import Access, Regions
from qmptests.vfio.spec import Bar, Spec

AT = 0x10000
SIZE = 0x4000
#: The MSI-X table of four vectors lies in the middle of BAR 0.
TABLE, TABLE_END = 0x2000, 0x2040
SPEC = Spec("vf0", bars=(Bar(0, SIZE), Bar(2, 0x1000, mmap=False), Bar(4, 1 << 33, wide=True)))
SHARED = mmap.MAP_SHARED


def where(region: int, offset: int) -> int:
    return (region << 40) + offset


@pytest.fixture
def config() -> ConfigSpace:
    space = ConfigSpace(SPEC)
    space.write(COMMAND, b"\x02\0")
    return space


@pytest.fixture
def regions(config: ConfigSpace) -> Regions:
    return Regions(SPEC, config, Bars(SPEC))


def ask(regions: Regions, region: int, offset: int, count: int = 4) -> Access:
    return regions.access(AT, count, where(region, offset), bound=True)


@pytest.mark.parametrize(
    ("region", "offset", "count", "answer"),
    [
        (Region.CONFIG, 0, 4096, 4096),
        (Region.CONFIG, 4095, 1, 1),
        (Region.CONFIG, 4095, 2, errno.EFAULT),
        (Region.CONFIG, 4096, 1, errno.EFAULT),
        (Region.CONFIG, 1 << 30, 1, errno.EFAULT),
        (Region.CONFIG, 4096, 0, 0),
        (Region.BAR0, 0, SIZE, SIZE),
        (Region.BAR0, SIZE - 4, 8, 4),
        (Region.BAR0, SIZE, 1, errno.EINVAL),
        (Region.BAR0, 0, 1 << 40, SIZE),
        (Region.BAR2, 0xFFF, 4, 1),
        (Region.BAR4, 0, 1 << 34, 0x7FFFF000),
        (Region.BAR1, 0, 4, errno.EINVAL),
        (Region.BAR5, 0, 4, errno.EINVAL),
        (Region.BAR1, 0, 0, 0),
        (Region.ROM, 0, 4, errno.EINVAL),
        (Region.VGA, 0xA0000, 4, errno.EINVAL),
        (9, 0, 4, errno.EINVAL),
        ((1 << 23) - 1, 0, 4, errno.EINVAL),
    ],
)
def test_as_much_as_there_is_can_be_read_and_written(
    regions: Regions, region: int, offset: int, count: int, answer: int
) -> None:
    access = ask(regions, region, offset, count)
    assert (access.errno or access.length) == answer
    if access.length:
        assert (access.errno, access.region, access.at) == (0, region, offset)
        assert access.cut == (answer < min(count, 0x7FFFF000))


@pytest.mark.parametrize(
    ("address", "count", "position", "number"),
    [
        (AT, 4, 1 << 63, errno.EINVAL),
        (AT, 4, (1 << 64) - 1, errno.EINVAL),
        (AT, 4, (1 << 63) - 1, errno.EINVAL),
        (AT, 1 << 63, where(7, 0), errno.EFAULT),
        (AT, (1 << 64) - 1, where(7, 0), errno.EFAULT),
        ((1 << 64) - 8, 4, where(7, 0), errno.EFAULT),
        ((1 << 64) - 8, 0, (1 << 64) - 8, errno.EINVAL),
    ],
)
def test_what_no_file_allows_is_refused_first(
    regions: Regions, address: int, count: int, position: int, number: int
) -> None:
    for bound in (True, False):
        assert regions.access(address, count, position, bound=bound) == Access(number)


@pytest.mark.parametrize("count", [0, 4])
@pytest.mark.parametrize("region", [Region.CONFIG, Region.BAR0, 9])
def test_nothing_can_be_had_of_a_device_that_nobody_has_bound(
    regions: Regions, region: int, count: int
) -> None:
    assert regions.access(AT, count, where(region, 0), bound=False) == Access(errno.EINVAL)
    assert regions.refuses_map(4096, SHARED, where(region, 0), bound=False) == errno.EINVAL


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_bar_does_not_answer_with_memory_off_or_in_d3hot(
    regions: Regions, config: ConfigSpace, sleeps: bool
) -> None:
    """But for the MSI-X table, which is not looked at."""
    config.write(*((PM_CONTROL, b"\x03") if sleeps else (COMMAND, b"\0\0")))
    assert ask(regions, 0, 0) == Access(errno.EIO)
    assert ask(regions, 2, 0) == Access(errno.EIO)
    assert ask(regions, 0, SIZE) == Access(errno.EINVAL)
    assert ask(regions, 0, TABLE, 0x40).length == 0x40
    assert ask(regions, 0, TABLE, 0x41) == Access(errno.EIO)
    assert ask(regions, 0, TABLE - 1, 2) == Access(errno.EIO)
    assert ask(regions, Region.CONFIG, 0).length == 4
    assert regions.refuses_map(4096, SHARED, where(0, 0), bound=True) == 0


@given(offset=st.integers(0, SIZE - 1), count=st.integers(1, SIZE))
def test_nobody_gets_to_the_msix_table(offset: int, count: int) -> None:
    regions = Regions(SPEC, ConfigSpace(SPEC), Bars(SPEC))
    end = offset + count
    reached = [at for part in regions.reached(0, offset, count) for at in range(*part)]
    assert reached == [at for at in range(offset, end) if not TABLE <= at < TABLE_END]
    assert regions.reached(4, offset, count) == [(offset, end)]


def test_without_msix_there_is_nothing_to_leave_out() -> None:
    spec = SPEC._replace(msix_vectors=0)
    regions = Regions(spec, ConfigSpace(spec), Bars(spec))
    assert regions.reached(0, 0, SIZE) == [(0, SIZE)]


@pytest.mark.parametrize(
    ("region", "offset", "length", "flags", "number"),
    [
        (0, 0, SIZE, SHARED, 0),
        (0, SIZE - 4096, 4096, SHARED, 0),
        (0, 0, 10, SHARED, 0),
        (4, 1 << 32, 1 << 32, SHARED, 0),
        (0, 0, 4096, 3, 0),
        (0, 0, 4096, SHARED | mmap.MAP_POPULATE, 0),
        (0, 0, 4096, mmap.MAP_PRIVATE, errno.EINVAL),
        (0, 0, SIZE + 1, SHARED, errno.EINVAL),
        (0, SIZE, 4096, SHARED, errno.EINVAL),
        (0, SIZE - 4096, 4097, SHARED, errno.EINVAL),
        (1, 0, 4096, SHARED, errno.EINVAL),
        (2, 0, 4096, SHARED, errno.EINVAL),
        (Region.ROM, 0, 4096, SHARED, errno.EINVAL),
        (Region.CONFIG, 0, 4096, SHARED, errno.EINVAL),
        (Region.VGA, 0, 4096, SHARED, errno.EINVAL),
        (9, 0, 4096, SHARED, errno.EINVAL),
        (0, 0, 1 << 40, SHARED, errno.EINVAL),
        # These are for the kernel to refuse, each in its own way.
        (9, 0, 0, SHARED, 0),
        (9, 1, 4096, SHARED, 0),
        (9, 0, 1 << 62, SHARED, 0),
    ],
)
def test_bars_that_may_be_mapped_are(
    regions: Regions, region: int, offset: int, length: int, flags: int, number: int
) -> None:
    assert regions.refuses_map(length, flags, where(region, offset), bound=True) == number
