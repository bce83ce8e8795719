"""Which cells are meant: `source=10.0*,machine!=q35-9.*`.

Terms are separated by commas and all must hold. A value is a glob (`*`, `?`, `[seq]`, `[!seq]`,
case matters) for the whole name of the coordinate; a machine also matches without its `pc-`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from qmptests.errors import InputError

AXES = ("source", "destination", "machine", "vm", "device", "transport", "capabilities")
"""The coordinates that every cell has."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the coordinate on `axis` matches `glob`, or, if not `wanted`, does not."""

    axis: str
    wanted: bool
    glob: str

    def holds(self, value: str) -> bool:
        """Whether `value` is a coordinate that the term asks for."""
        names = [value]
        if self.axis == "machine" and value.startswith("pc-"):
            names.append(value.removeprefix("pc-"))
        return any(fnmatchcase(name, self.glob) for name in names) is self.wanted


@dataclass(frozen=True, slots=True)
class Expression:
    """What `parse` made of `text`."""

    text: str
    terms: tuple[Term, ...]

    def matches(self, coordinates: Mapping[str, str]) -> bool:
        """Whether all terms hold; `coordinates` has a name for each of `AXES`."""
        return all(term.holds(coordinates[term.axis]) for term in self.terms)


def parse(text: str) -> Expression:
    """The expression in `text`; raises InputError that names the term which is none."""
    return Expression(text, tuple(_term(part, text) for part in text.split(",")))


def any_matches(expressions: Sequence[Expression], coordinates: Mapping[str, str]) -> bool:
    """Whether one of `expressions` matches, or there is none: then every cell is meant."""
    return not expressions or any(e.matches(coordinates) for e in expressions)


def _term(part: str, text: str) -> Term:
    where = f"cell expression {text!r}"
    if not part.strip():
        raise InputError(f"{where}: an empty term; write AXIS=GLOB or AXIS!=GLOB, comma-separated")
    key, equals, glob = part.partition("=")
    axis, glob = key.removesuffix("!").strip(), glob.strip()
    if not equals or not glob:
        raise InputError(f"{where}: {part.strip()!r} is neither AXIS=GLOB nor AXIS!=GLOB")
    if axis not in AXES:
        near = difflib.get_close_matches(axis, AXES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(AXES)}"
        raise InputError(f"{where}: unknown axis {axis!r}: {hint}")
    return Term(axis, not key.endswith("!"), glob)
