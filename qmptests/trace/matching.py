"""Which events are meant: a name and what its arguments should be."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from qmptests.trace import formats
from qmptests.trace.parser import Event

Wanted: TypeAlias = Mapping[str, object]
"""Argument name -> the value it should have, or a function of the value that says yes or no."""


def accepts(event: Event, wanted: Wanted) -> bool:
    """Whether each wanted argument is there and right; `2` and `"2"` are the same value."""
    if not wanted:
        return True
    args = event.args
    for key, want in wanted.items():
        value = args.get(formats.key_name(key))
        if value is None:
            return False
        if callable(want):
            judge: Callable[[object], object] = want
            if not judge(value):
                return False
        elif value != want and str(value) != str(want):
            return False
    return True


def describe(name: str, wanted: Wanted) -> str:
    """`migrate_set_state(new_state=active)`, for messages."""
    if not wanted:
        return name
    parts = []
    for key, want in wanted.items():
        shown = getattr(want, "__name__", want) if callable(want) else want
        parts.append(f"{formats.key_name(key)}={shown}")
    return f"{name}({', '.join(parts)})"
