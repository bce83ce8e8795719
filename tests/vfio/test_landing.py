"""Memory for what arrives is there before it comes."""

import os
from collections.abc import Iterator

import pytest

from qmptests.vfio import syscalls
from qmptests.vfio.landing import MOST, PIECE, Landing


@pytest.fixture
def made() -> Iterator[list[Landing]]:
    """Landings that are closed at the end."""
    landings: list[Landing] = []
    yield landings
    for each in landings:
        each.close()


def test_it_is_had_piece_by_piece_and_nothing_has_arrived(made: list[Landing]) -> None:
    made.append(place := Landing("vf0", 2 * PIECE + 4096))
    had = []
    while place.prepare():
        had.append(os.fstat(place.fd).st_blocks * 512)
        assert place.length == 0
    assert had == [PIECE, 2 * PIECE, 2 * PIECE + 4096]
    assert place.ready
    os.write(place.fd, b"data")
    assert place.length == 4


def test_what_expects_nothing_is_ready(made: list[Landing]) -> None:
    made.append(place := Landing("vf0", 0))
    assert place.ready
    assert not place.prepare()


def test_a_profile_cant_take_all_of_the_hosts(
    made: list[Landing], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(
        syscalls, "fallocate", lambda _, __, start, length: taken.append((start, length))
    )
    made.append(place := Landing("vf0", 1 << 40))
    while place.prepare():
        pass
    assert sum(length for _, length in taken) == 2 * MOST, "each piece is taken, and touched"
    assert taken[-1] == (MOST - PIECE, PIECE)
