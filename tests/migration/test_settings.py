"""Capabilities and parameters from text, and where they belong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import InputError
from qmptests.migration import settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("downtime-limit=300", 300),
        ("max-bandwidth=1G", 1 << 30),
        ("direct-io=on", True),
        ("cpu-throttle-tailslow=off", False),
        ("multifd-compression=zlib", "zlib"),
        ("tls-hostname=10.example", "10.example"),
    ],
)
def test_values_get_the_type_that_qmp_wants(text: str, value: object) -> None:
    name, parsed = settings.parse_assignment(text)
    assert name == text.partition("=")[0]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["", "=", "a=", "=b", "name"])
def test_what_is_no_assignment_says_so(text: str) -> None:
    with pytest.raises(InputError, match="is not NAME=VALUE"):
        settings.parse_assignment(text)


def test_a_capability_is_on_unless_it_says_off() -> None:
    assert settings.parse_capability("multifd") == ("multifd", True)
    assert settings.parse_capability("multifd=off") == ("multifd", False)
    with pytest.raises(InputError, match="on or off, not 'maybe'"):
        settings.parse_capability("multifd=maybe")


@given(st.text(max_size=20))
def test_no_text_is_more_than_an_input_error(text: str) -> None:
    for parse in (settings.parse_assignment, settings.parse_capability):
        try:
            assert parse(text)
        except InputError as error:
            assert str(error)  # noqa: PT017


def test_each_is_set_where_it_has_an_effect() -> None:
    wanted: dict[str, settings.Value] = {
        "max-bandwidth": 1,
        "announce-rounds": 2,
        "multifd-channels": 4,
    }
    assert set(settings.parameters_for(wanted, source=True)) == {
        "max-bandwidth",
        "multifd-channels",
    }
    assert set(settings.parameters_for(wanted, source=False)) == {
        "announce-rounds",
        "multifd-channels",
    }
    both = {"multifd": True, "pause-before-switchover": True}
    assert set(settings.capabilities_for(both, source=False)) == {"events", "multifd"}
