"""What the dirtier says is understood, however it arrives."""

from hypothesis import given
from hypothesis import strategies as st

from qmptests.guests.console import DirtierConsole
from qmptests.guests.protocol import Noise, Observation, Rebooted, Reported, Started

BANNER = "dirtier v1 start=00100000 length=01000000 seed=00000007"


def stream(*reports: tuple[int, int]) -> bytes:
    lines = [f"c={counter:08x} p={pages:08x}\n" for counter, pages in reports]
    return f"\n{BANNER}\n{''.join(lines)}".encode()


def test_a_guest_is_ready_with_its_banner_and_alive_with_its_first_report() -> None:
    console = DirtierConsole()
    assert (console.ready, console.alive, console.counter) == (False, False, None)
    assert console.feed(stream()) == [Started(BANNER)]
    assert (console.ready, console.alive, console.counter) == (True, False, None)
    assert console.feed(b"c=0000002a p=00000d38\n") == [Reported(42, 3384)]
    assert (console.ready, console.alive, console.counter) == (True, True, 42)


@given(
    st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)), max_size=20),
    st.data(),
)
def test_lines_are_the_same_however_they_are_cut(
    reports: list[tuple[int, int]], data: st.DataObject
) -> None:
    console = DirtierConsole()
    seen: list[Observation] = []
    rest = stream(*reports)
    while rest:
        size = data.draw(st.integers(1, 40))
        seen += console.feed(rest[:size])
        rest = rest[size:]
    assert seen == [Started(BANNER), *(Reported(*report) for report in reports)]


def test_a_second_banner_is_a_reboot_and_the_guest_has_to_show_life_again() -> None:
    console = DirtierConsole()
    console.feed(stream((1, 80), (2, 160)) + b"c=0000")
    assert console.feed(stream()) == [Noise("c=0000"), Rebooted(BANNER)]
    assert (console.ready, console.alive, console.counter) == (True, False, None)


def test_a_destination_counts_on_and_forgives_only_the_rest_of_a_first_line() -> None:
    console = DirtierConsole(resumed=True)
    assert console.ready
    assert not console.alive
    assert console.feed(b"2a p=00000d38\nc=0000002b p=00000d8a\n") == [Reported(43, 3466)]
    assert console.feed(b"2a p=00000d38\n") == [Noise("2a p=00000d38")]


def test_a_destination_whose_guest_begins_anew_has_rebooted() -> None:
    assert DirtierConsole(resumed=True).feed(stream()) == [Rebooted(BANNER)]


def test_firmware_that_is_not_ours_is_noise_and_never_ready() -> None:
    console = DirtierConsole()
    assert console.feed(b"SeaBIOS\r\n\xff\xfe\n") == [Noise("SeaBIOS"), Noise("\\xff\\xfe")]
    assert not console.ready


def test_a_line_without_an_end_is_said_once_and_not_kept() -> None:
    console = DirtierConsole()
    seen = [observation for _ in range(1000) for observation in console.feed(b"x" * 100)]
    assert seen == [Noise("x" * 200)]
    assert console.feed(b"x\n" + stream((1, 2))) == [Started(BANNER), Reported(1, 2)]


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_are_survived(chunks: list[bytes]) -> None:
    console = DirtierConsole()
    for chunk in chunks:
        console.feed(chunk)
    console.feed(b"\n")
    assert console.feed(b"c=00000001 p=00000002\n") == [Reported(1, 2)]
