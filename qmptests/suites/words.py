"""What QEMU says when it refuses: texts by version."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qmptests.vm.dialect import Version


class Seen(NamedTuple):
    """A text and the oldest and the newest release that it was seen with, by major and minor."""

    first: tuple[int, int]
    last: tuple[int, int]
    text: str


class Words:
    """A table of refusals. In a text, `{}` are what differs from case to case."""

    def __init__(self, table: Mapping[str, Sequence[Seen]]) -> None:
        self.table = table

    def possible(self, refusal: str, version: Version) -> list[str]:
        """What `version` may say: one text, or two for a version between two that were seen."""
        rows, number = self.table[refusal], version[:2]
        exact = [seen.text for seen in rows if seen.first <= number <= seen.last]
        older = [seen.text for seen in rows if seen.last < number][-1:]
        newer = [seen.text for seen in rows if seen.first > number][:1]
        return exact or [*older, *newer]

    def find(self, refusal: str, said: Sequence[str], version: Version, *facts: str | int) -> bool:
        """Whether QEMU `version` refused in its words in one of the lines that it `said`."""
        wanted = [text.format(*facts) for text in self.possible(refusal, version)]
        return any(text in line for text in wanted for line in said)
