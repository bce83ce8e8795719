"""Cell expressions: text in, a choice of cells out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.matrix import expression
from qmptests.matrix.expression import AXES

CELL = {
    "source": "10.0.13",
    "destination": "11.1.3",
    "machine": "pc-q35-10.0",
    "vm": "none",
    "device": "virtio-net",
    "transport": "unix",
    "capabilities": "return-path",
}
#: Names without a glob's or an expression's own characters.
NAMES = st.from_regex(r"[a-zA-Z0-9.+_-]{1,12}", fullmatch=True)
CELLS = st.fixed_dictionaries(dict.fromkeys(AXES, NAMES))


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("source=10.0.13", True),
        ("source=10.0*", True),
        ("source=10.0", False),
        ("source!=10.0", True),
        ("source!=10.*", False),
        ("source=10.0*,machine=*q35*", True),
        ("source=10.0*,machine=*i440fx*", False),
        ("source=10.0*,source!=10.0.2", True),
        (" source = 10.0* , machine != *i440fx* ", True),
        ("device=virtio-[ns]*", True),
        ("device=virtio-[!ns]*", False),
        ("device=Virtio*", False),
        ("capabilities=return-pat?", True),
    ],
)
def test_all_terms_must_hold(text: str, matches: bool) -> None:
    assert expression.parse(text).matches(CELL) is matches


@pytest.mark.parametrize("name", ["pc-q35-10.0", "q35-10.0", "q35-*", "pc-q35*"])
def test_a_machine_is_also_known_without_its_prefix(name: str) -> None:
    assert expression.parse(f"machine={name}").matches(CELL)
    assert not expression.parse(f"machine!={name}").matches(CELL)


def test_no_other_name_loses_a_prefix() -> None:
    assert not expression.parse("device=net").matches({**CELL, "device": "pc-net"})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "cell expression '': an empty term"),
        ("source=a,", "cell expression 'source=a,': an empty term"),
        ("source=a,,vm=b", "an empty term"),
        ("source", "'source' is neither AXIS=GLOB nor AXIS!=GLOB"),
        ("source=", "'source=' is neither"),
        ("vm=a,device!= ", "'device!=' is neither"),
        ("sorce=a", "unknown axis 'sorce': did you mean 'source'?"),
        ("zzz=a", f"unknown axis 'zzz': there are {', '.join(AXES)}"),
        ("=a", "unknown axis ''"),
        ("Source=a", "unknown axis 'Source': did you mean 'source'?"),
    ],
)
def test_what_is_no_expression_says_why(text: str, error: str) -> None:
    with pytest.raises(InputError, match=re.escape(error)):
        expression.parse(text)


@given(st.text(max_size=30))
def test_no_text_is_more_than_one_line_of_an_input_error(text: str) -> None:
    try:
        expression.parse(text)
    except InputError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@given(st.sampled_from(AXES), NAMES, CELLS)
def test_the_negated_term_matches_exactly_the_other_cells(
    axis: str, name: str, cell: dict[str, str]
) -> None:
    for glob in (name, cell[axis], f"*{cell[axis][-1]}"):
        is_so = expression.parse(f"{axis}={glob}")
        is_not = expression.parse(f"{axis}!={glob}")
        assert is_so.matches(cell) is not is_not.matches(cell)


@given(CELLS)
def test_a_cell_matches_its_own_coordinates_and_no_term_more(cell: dict[str, str]) -> None:
    text = ",".join(f"{axis}={name}" for axis, name in cell.items())
    assert expression.parse(text).matches(cell)
    for axis in AXES:
        assert not expression.parse(f"{text},{axis}!={cell[axis]}").matches(cell)


def test_no_expression_at_all_means_every_cell() -> None:
    ten, eleven = expression.parse("source=10*"), expression.parse("source=11*")
    assert expression.any_matches([], CELL)
    assert expression.any_matches([eleven, ten], CELL)
    assert not expression.any_matches([eleven], CELL)
