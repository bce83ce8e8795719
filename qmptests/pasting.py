"""Command lines that we show so that a person pastes them into a shell."""

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def word(text: str) -> str:
    """`text` as one word of a shell; what isn't seen as ``$'\\033'``, which is POSIX since 2024."""
    if _PLAIN.fullmatch(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\"'\"'") + "'"
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else _escape(c) for c in escaped) + "'"


def command(words: Iterable[str]) -> str:
    """A whole command line."""
    return " ".join(map(word, words))


def path(text: str) -> str:
    """A path as a word that is not taken for an option."""
    return word(f"./{text}" if text.startswith("-") else text)


def _escape(character: str) -> str:
    """In octal, byte by byte: hexadecimal digits would take those that follow as well."""
    number = ord(character)
    escaped = 0xDC80 <= number <= 0xDCFF  # a byte that is not UTF-8, as Python has it in a path
    data = bytes([number & 0xFF]) if escaped else character.encode(errors="surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)
