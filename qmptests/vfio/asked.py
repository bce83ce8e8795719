"""What somebody at a control socket asks for: read without trust, since a supervisor must go on.

Standard library only. Each function raises ValueError with words for the answer.
"""

import json
import math
from typing import Any, Final

from qmptests.vfio import script
from qmptests.vfio.spec import Rule

#: What devices are made of, and can have.
BLOCK: Final = 4096
MOST_BYTES: Final = 1 << 40
#: More rules are not kept.
MOST_RULES: Final = 10_000
#: A larger number is in no request.
LARGEST: Final = 1 << 64
#: The largest value of each kind that `script` knows.
_MOST: Final = {
    script.NOTHING: LARGEST,
    script.ERRNO: 4095,
    script.SECONDS: 10**9,
    script.BYTES: MOST_BYTES,
    script.NUMBER: 999_999,
}


def decode(packet: bytes) -> dict[str, Any]:
    """The object in a packet."""
    try:
        request = json.loads(packet, parse_int=_integer, parse_float=_float, parse_constant=_float)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(request, dict):
        raise ValueError("a request is an object")
    return request


def identity(request: dict[str, Any]) -> int | str | None:
    """What the answer is told apart by."""
    found = request.get("id")
    return found if isinstance(found, int | str) else None


def text(request: dict[str, Any], key: str, default: str | None = None) -> str:
    """A word of a request."""
    found = request.get(key, default)
    if not isinstance(found, str):
        raise ValueError(f"'{key}' is no text")
    return found


def number(request: dict[str, Any], key: str, default: int = 0, most: int = LARGEST) -> int:
    """A whole number of a request, from 0 on."""
    found = request.get(key, default)
    if not isinstance(found, int) or not 0 <= found <= most:
        raise ValueError(f"'{key}' is no number from 0 to {most}")
    return found


def value(request: dict[str, Any], do: str) -> float:
    """The value that belongs to `do`."""
    kind = script.DO.get(do, script.NOTHING)
    most = LARGEST if do == "announce" else _MOST[kind]
    found = request.get("value", 0)
    if not isinstance(found, int | float) or not 0 <= found <= most:
        raise ValueError(f"'value' is no number from 0 to {most}")
    if kind == script.BYTES and do != "announce" and found % BLOCK:
        raise ValueError(f"'value' is no multiple of {BLOCK}")
    return found if kind == script.SECONDS else int(found)


def rule(request: dict[str, Any]) -> Rule:
    """The rule that is to be added."""
    fields = request.get("rule")
    if not isinstance(fields, dict) or fields.keys() - set(Rule._fields):
        raise ValueError(f"'rule' is no object of {', '.join(Rule._fields)}")
    do, states, after_s = text(fields, "do"), fields.get("states", ()), fields.get("after_s", 0.0)
    if do not in script.DO:
        raise ValueError(f"unknown action '{do}': there are {', '.join(script.DO)}")
    if not isinstance(states, list | tuple) or not all(isinstance(s, str) for s in states):
        raise ValueError("'states' is no list of texts")
    if not isinstance(after_s, int | float) or not 0 <= after_s <= _MOST[script.SECONDS]:
        raise ValueError("'after_s' is no time")
    return Rule(
        on=text(fields, "on"),
        do=do,
        nth=max(1, number(fields, "nth", 1)),
        times=number(fields, "times", 1),
        after_bytes=number(fields, "after_bytes"),
        after_s=after_s,
        states=tuple(states),
        value=value(fields, do),
        words=text(fields, "words", ""),
    )


def _integer(digits: str) -> int:
    found = int(digits)  # ValueError for thousands of digits
    if not -LARGEST <= found <= LARGEST:
        raise ValueError(f"{digits[:24]}... is out of range")
    return found


def _float(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(f"{digits[:24]} is out of range")
    return found
