"""What TOML files say, with what they leave out; their errors are tested with their readers."""

import msgspec

from qmptests import toml


class Named(msgspec.Struct):
    name: str
    size: int = 1


def test_a_default_is_for_a_key_that_the_text_does_not_have() -> None:
    assert toml.convert("size = 2", "x.toml", Named, name="x") == Named("x", 2)
    assert toml.convert('name = "mine"', "x.toml", Named, name="x") == Named("mine")
