"""How tables are laid out for a terminal or a mail: a label, then lines, in 72 columns."""

import textwrap
from collections.abc import Iterable

WIDTH = 72
LABEL = 12
#: Columns beside the label.
ROOM = WIDTH - LABEL - 1


def labelled(label: str, texts: Iterable[str]) -> list[str]:
    """The lines one below the other, with the label before the first."""
    return [f"{'' if number else label:<{LABEL}} {text}" for number, text in enumerate(texts)]


def wrapped(label: str, text: str) -> list[str]:
    """A text of any length, in as many lines as it takes."""
    return labelled(label, textwrap.wrap(text, ROOM))
