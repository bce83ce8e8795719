"""What QEMU says when it refuses a migration: one table, by the destination's version."""

from typing import NamedTuple

from qmptests.vm.dialect import Version


class Seen(NamedTuple):
    """A text and the oldest and the newest release that it was seen with, by major and minor."""

    first: tuple[int, int]
    last: tuple[int, int]
    text: str


#: `{}` are what differs from case to case.
TABLE = {
    "unknown machine type": [
        Seen((7, 2), (7, 2), "unsupported machine type"),
        Seen((10, 0), (11, 1), 'unsupported machine type: "{}"'),
    ],
    "another machine type": [
        Seen((7, 2), (11, 1), "Machine type received is '{}' and local is '{}'"),
    ],
    "another size": [
        Seen((7, 2), (11, 1), "Size mismatch: pc.ram: {:#x} != {:#x}: Invalid argument"),
    ],
    "unknown memory": [
        Seen((7, 2), (11, 1), 'Unknown ramblock "{}", cannot accept migration'),
    ],
    "unknown section": [
        Seen((7, 2), (10, 0), "Unknown savevm section or instance '{}' 0."),
        Seen((11, 1), (11, 1), "Unknown section or instance '{}' 0."),
    ],
}


def possible(refusal: str, version: Version) -> list[str]:
    """The texts that `version` may use: one, or two for a version between two that were seen."""
    rows, number = TABLE[refusal], version[:2]
    exact = [seen.text for seen in rows if seen.first <= number <= seen.last]
    older = [seen.text for seen in rows if seen.last < number][-1:]
    newer = [seen.text for seen in rows if seen.first > number][:1]
    return exact or [*older, *newer]


def find(refusal: str, said: list[str], version: Version, *facts: str | int) -> bool:
    """Whether QEMU `version` refused in its words in one of the lines that it `said`."""
    wanted = [text.format(*facts) for text in possible(refusal, version)]
    return any(text in line for text in wanted for line in said)
