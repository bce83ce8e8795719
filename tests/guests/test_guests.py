"""Choosing a guest, its parameters, and its image."""

import platform
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from qmptests.errors import EnvironmentFailure, InputError
from qmptests.guests import MemoryRange, create, kinds
from qmptests.guests.assemble import SOURCE, TOOLS, assemble
from qmptests.guests.image import BINARY, IMAGE_SIZE, TIMER_HZ
from qmptests.guests.pattern import PAGE_SIZE, VALUE_STEP, page_content

MIB = 1 << 20
RAM = 256 * MIB


def image_of(directory: Path, **parameters: int) -> bytes:
    option, path = create("dirtier", parameters, ram=RAM).arguments(directory)
    assert option == "-bios"
    return Path(path).read_bytes()


def parameters_in(image: bytes) -> tuple[int, ...]:
    return struct.unpack_from("<6I", image, len(BINARY.read_bytes()) - 24)


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "i686"},
    reason="this machine's binutils are not for x86",
)
@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS),
    reason=f"GNU binutils ({', '.join(TOOLS)}) are not all on PATH",
)
def test_the_binary_is_what_its_source_assembles_to() -> None:
    assert assemble() == BINARY.read_bytes()


def test_assembling_without_binutils_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EnvironmentFailure, match="without as, ld, objcopy; install GNU binutils"):
        assemble()


def test_program_and_check_step_from_page_to_page_alike() -> None:
    assert f"VALUE_STEP, {VALUE_STEP:#x} " in SOURCE.read_text()


def test_the_image_begins_with_the_program_and_resets_into_it(tmp_path: Path) -> None:
    image = image_of(tmp_path)
    assert len(image) == IMAGE_SIZE
    program = BINARY.read_bytes()
    assert image[: len(program) - 24] == program[:-24]
    opcode, displacement = struct.unpack_from("<BH", image, IMAGE_SIZE - 16)
    assert opcode == 0xE9
    assert (IMAGE_SIZE - 16 + 3 + displacement) % IMAGE_SIZE == 0


def test_the_defaults_are_in_the_image(tmp_path: Path) -> None:
    start, pages, seed, first_value, pages_per_tick, report_ticks = parameters_in(
        image_of(tmp_path)
    )
    assert (start, pages, seed, first_value % 2) == (MIB, 4096, 0, 1)
    assert pages_per_tick / 2**32 * TIMER_HZ * PAGE_SIZE == pytest.approx(32 * MIB, rel=1e-6)
    assert report_ticks / TIMER_HZ == pytest.approx(0.010, rel=1e-3)


def test_what_was_asked_for_is_in_the_image(tmp_path: Path) -> None:
    image = image_of(tmp_path, start=2 * MIB, length=8192, rate=0, seed=99, report_interval=60_000)
    start, pages, seed, _, pages_per_tick, report_ticks = parameters_in(image)
    assert (start, pages, seed, pages_per_tick) == (2 * MIB, 2, 99, 0)
    assert report_ticks == 60 * TIMER_HZ


def test_even_the_slowest_and_the_fastest_rate_fit(tmp_path: Path) -> None:
    for rate in (4096, 4 << 30):
        pages_per_tick = parameters_in(image_of(tmp_path, rate=rate))[4]
        assert pages_per_tick / 2**32 * TIMER_HZ * PAGE_SIZE == pytest.approx(rate, rel=1e-3)


def test_the_check_looks_for_the_pattern_that_the_image_writes(tmp_path: Path) -> None:
    guest = create("dirtier", {"seed": 5, "length": 4 * PAGE_SIZE}, ram=RAM)
    assert guest.ranges == (MemoryRange(MIB, 4 * PAGE_SIZE),)
    first_value = parameters_in(image_of(tmp_path, seed=5))[3]
    memory = b"".join(page_content(first_value, page, 1) for page in range(4))
    report = guest.check([memory])
    assert report is not None
    assert report.right
    other = create("dirtier", {"seed": 6, "length": 4 * PAGE_SIZE}, ram=RAM).check([memory])
    assert other is not None
    assert other.bad_pages == 4


def test_an_image_that_cannot_be_written_is_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"dirtier\.img can't be written: No such file"):
        create("dirtier", {}, ram=RAM).arguments(tmp_path / "missing")


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"start": 0}, "guest.start: 0 is below 1M"),
        ({"start": MIB + 1}, "guest.start: 1048577 is not a multiple of 4096"),
        ({"length": 0}, "guest.length: 0 is not positive"),
        ({"length": 4095}, "guest.length: 4095 is not a multiple of 4096"),
        ({"length": RAM}, "guest.length: 268435456 does not fit: from 1M on, only 255M are left"),
        ({"start": 2 * RAM}, "only 0 are left below 256M (the end of the memory)"),
        ({"rate": -1}, "guest.rate: -1 is neither 0"),
        ({"rate": 1}, "guest.rate: 1 is neither 0"),
        ({"rate": (4 << 30) + 1}, "bytes per second"),
        ({"seed": -1}, "guest.seed: -1 is not"),
        ({"seed": 1 << 31}, "guest.seed: 2147483648 is not"),
        ({"report_interval": 0}, "guest.report_interval: 0 is not from 1 to 60000 ms"),
        ({"report_interval": 60_001}, "guest.report_interval: 60001 is not"),
        ({"length": "16M"}, "guest.length: '16M' is not a whole number"),
        ({"length": True}, "guest.length: True is not a whole number"),
        ({"lenght": 4096}, "guest.lenght: no such parameter of the guest dirtier; it knows start"),
    ],
)
def test_a_parameter_that_cannot_be_is_named_by_its_key(
    parameters: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError) as error:
        create("dirtier", parameters, ram=RAM)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_the_dirtier_ends_below_2_gib_whatever_the_memory() -> None:
    create("dirtier", {"length": 2047 * MIB}, ram=4 << 30)
    with pytest.raises(InputError, match=r"2047M are left below 2G \(the most that the guest can"):
        create("dirtier", {"length": 2048 * MIB}, ram=4 << 30)


def test_no_guest_asks_for_nothing_and_cannot_tell(tmp_path: Path) -> None:
    guest = create("none", {}, ram=RAM, architecture="aarch64")
    assert (guest.kind, guest.architecture, guest.ranges) == ("none", "aarch64", ())
    assert guest.arguments(tmp_path) == []
    assert guest.check([]) is None
    console = guest.console()
    assert console.ready
    assert console.feed(b"SeaBIOS\n") == []
    assert not console.alive
    assert list(tmp_path.iterdir()) == []


def test_no_guest_has_no_parameters() -> None:
    with pytest.raises(InputError, match=r"guest\.length: no such parameter of the guest none"):
        create("none", {"length": 4096}, ram=RAM)


def test_an_unknown_kind_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"guest\.kind: no guest 'windows' for x86_64; .*none, dir"
    ):
        create("windows", {}, ram=RAM)


def test_a_dirtier_is_not_offered_where_it_does_not_run() -> None:
    assert kinds("x86_64") == ["none", "dirtier"]
    assert kinds("aarch64") == ["none"]
    with pytest.raises(InputError, match="no guest 'dirtier' for aarch64; there are: none"):
        create("dirtier", {}, ram=RAM, architecture="aarch64")
