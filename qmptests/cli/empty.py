"""Refuses options without a value: mostly a variable that the shell does not know.

`-k "$EXPR"` would run everything, `--destination "$NEW"` migrate a build to itself: both green.
"""

from typing import Any

import click
from click.core import ParameterSource

#: Words for QEMU or before it: none is as good as some.
_MAY_BE_EMPTY = frozenset({"args", "source_args", "destination_args", "wrapper"})


def refused(command: click.Command) -> click.Command:
    """The command; each option and argument that is given must say something."""
    if isinstance(command, click.Group):
        for part in command.commands.values():
            refused(part)
    for parameter in command.params:
        free = parameter.name in _MAY_BE_EMPTY or parameter.nargs != 1
        if not free and not isinstance(parameter.callback, _Check):
            parameter.callback = _Check(parameter.callback)
    return command


class _Check:
    """A parameter's callback, before which its value is looked at."""

    def __init__(self, then: Any) -> None:
        self._then = then

    def __call__(self, context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        source = context.get_parameter_source(parameter.name or "")
        values = value if isinstance(value, tuple | list) else (value,)
        empty = any(isinstance(text, str) and not text.strip() for text in values)
        if empty and source is ParameterSource.COMMANDLINE:
            raise click.BadParameter(
                "it is empty: leave it out, or see whether the shell knows the variable",
                context,
                parameter,
            )
        return self._then(context, parameter, value) if self._then else value
