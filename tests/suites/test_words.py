"""The table of refusals: a version that was seen has one text, one between two may have either."""

import pytest

from qmptests.suites.compat import words


@pytest.mark.parametrize(
    ("version", "texts"),
    [
        ((7, 2, 22), ["unsupported machine type"]),
        ((9, 1, 0), ["unsupported machine type", 'unsupported machine type: "{}"']),
        ((10, 2, 0), ['unsupported machine type: "{}"']),
        ((12, 0, 0), ['unsupported machine type: "{}"']),
        ((6, 2, 0), ["unsupported machine type"]),
    ],
)
def test_which_texts_a_version_may_use(version: tuple[int, int, int], texts: list[str]) -> None:
    assert words.possible("unknown machine type", version) == texts


def test_other_facts_are_other_words() -> None:
    said = ["qemu-system-x86_64: Size mismatch: pc.ram: 0x10000000 != 0x20000000: Invalid argument"]
    size = 256 << 20
    assert words.find("another size", said, (10, 0, 13), size, 2 * size)
    assert not words.find("another size", said, (10, 0, 13), size, size)
    assert not words.find("another size", [], (10, 0, 13), size, 2 * size)
