"""What a device sent, for the outcome: all of it, in few pieces."""

from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.calls import Kind
from qmptests.vfio.emulated import MOST_CHUNKS, chunks

rows = st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 99), st.integers(1, 1 << 40)))


@given(rows)
def test_few_pieces_are_told_one_by_one(found: list[tuple[Kind, int, int]]) -> None:
    told = [(c["kind"], c["generation"], c["bytes"]) for c in chunks(found)]
    if len(found) <= MOST_CHUNKS:
        assert told == [(k.name.lower().replace("_", "-"), g, size) for k, g, size in found]


@given(rows, st.integers(2 * MOST_CHUNKS, 5000))
def test_of_many_none_is_lost_and_the_first_and_the_last_stand_alone(
    found: list[tuple[Kind, int, int]], count: int
) -> None:
    storm = [*found, *((Kind.INITIAL, number, 4096) for number in range(count))]
    told = chunks(storm)
    assert len(told) <= MOST_CHUNKS + len(Kind)
    assert sum(c["bytes"] for c in told) == sum(size for _, _, size in storm)
    half = MOST_CHUNKS // 2
    assert told[:half] == chunks(storm[:half])
    assert told[-half:] == chunks(storm[-half:])
