"""Sizes and times as text."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.units import format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("16M", 16 << 20),
        ("16m", 16 << 20),
        ("16MiB", 16 << 20),
        ("16MB", 16 << 20),
        (" 2G ", 2 << 30),
        ("1.5G", 3 << 29),
        ("0.001953125K", 2),
        ("1T", 1 << 40),
    ],
)
def test_suffixes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "1 M", "1P", "1e3", "0x10", "1.", "9" * 31, ".5K", "٣M", "1iM"]
)
def test_what_is_no_size_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(InputError, match="is not a size") as error:
        parse_size(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["1.5", "0.3K"])
def test_parts_of_a_byte_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a whole number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1000, "1000"), (1024, "1K"), (1536, "1536"), (16 << 20, "16M"), (5 << 50, "5120T")],
)
def test_a_size_is_written_with_the_largest_suffix_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_negative_size_is_not_written() -> None:
    with pytest.raises(ValueError, match="-1"):
        format_size(-1)


@given(
    st.integers(0, 1 << 70)
    | st.builds(lambda n, k: n << 10 * k, st.integers(0, 5000), st.integers(0, 5))
)
def test_any_size_survives_being_written_and_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert parse_size(text) >= 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("1.5s", 1.5), ("20us", 20e-6), (" 0s ", 0)]
)
def test_a_time_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1 s", "1m", "1.s", "1e3s", "٣s"])
def test_what_is_no_time_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(InputError, match="is not a time") as error:
        parse_duration(text)
    assert repr(text) in str(error.value)
