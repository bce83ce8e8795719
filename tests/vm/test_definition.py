"""VM definitions: what is right loads, what is wrong says where, in one line."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.vm import Definition, load, parse, shipped


def test_all_shipped_definitions_load() -> None:
    assert {"none", "dirtier"} <= set(shipped())
    for name in shipped():
        definition = load(name)
        assert definition.name == name
        assert definition.description


def test_sizes_are_powers_of_1024() -> None:
    assert parse('memory = "1.5G"', "x.toml", "x").memory_bytes == 3 << 29


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("memory = ", "vm.toml:1: not valid TOML: "),
        ('cpus = 1\nmemory = "256M\n', "vm.toml:2: not valid TOML: "),
        ("cpus = 1\ncpus = 2\n", "vm.toml:2: not valid TOML: "),
        ('cpus = "two"', "vm.toml: cpus: Expected `int`, got `str`"),
        ("cpus = 0", "vm.toml: cpus: 0 is not between 1 and 4096"),
        ('memory = "lots"', "vm.toml: memory: "),
        ('memory = "1K"', "vm.toml: memory: 1K is not a whole number of MiB"),
        ('memory = "1536K"', "vm.toml: memory: 1536K is not a whole number of MiB"),
        ('memory = "0"', "vm.toml: memory: 0 is not a whole number of MiB"),
        ('colour = "red"', "vm.toml: Object contains unknown field `colour`"),
        ("devices = [1]", "vm.toml: devices[0]: Expected `str`, got `int`"),
        ("[guest]\nlength = 1", "vm.toml: guest.kind: missing"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, error: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, "vm.toml", "vm")
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(InputError, match="unknown VM definition 'nope': there are dirtier, none"):
        load("nope")


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "vm.toml"
    with pytest.raises(InputError, match=f"cannot read VM definition {re.escape(str(path))}: No"):
        load(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load(str(path))


@given(st.text(max_size=200))
def test_no_text_is_more_than_an_input_error(text: str) -> None:
    try:
        assert isinstance(parse(text, "vm.toml", "vm"), Definition)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


_VALUES = st.recursive(
    st.integers() | st.booleans() | st.text("ab\"'\n", max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(Definition.__struct_fields__)), _VALUES)
def test_no_value_is_more_than_an_input_error(key: str, value: object) -> None:
    text = f"{key} = {_toml(value)}\n"
    try:
        parse(text, "vm.toml", "vm")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def _toml(value: object) -> str:
    import json  # noqa: PLC0415

    return json.dumps(value).replace("Infinity", "inf")
