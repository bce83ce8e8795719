"""JSON as we write it: indented, and such that a terminal can be shown it."""

import json

import msgspec

from qmptests import printable


def encode(value: object, indent: int = 1) -> bytes:
    """`value` as JSON; what isn't printable is escaped in it, and so stays what it is."""
    data = msgspec.json.format(msgspec.json.encode(value), indent=indent)
    return escaped(data) + b"\n"


def escaped(data: bytes) -> bytes:
    """Valid JSON of whatever origin, with the same meaning and nothing that steers a terminal."""
    if data.isascii() and b"\x7f" not in data and b"\r" not in data:
        return data
    text = data.decode()
    if printable.lines(text) == text:
        return data
    # Outside of strings JSON is ASCII, and inside nothing below U+0020 is allowed.
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text).encode()


def _escape(character: str) -> str:
    return "\n" if character == "\r" else json.dumps(character)[1:-1]
