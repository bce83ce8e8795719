"""Text of outside as a terminal, a script or a page may have it. Standard library only.

What QEMU, a guest, a file or a user says can hold escape sequences, which move a cursor, set a
window's title or fill a clipboard; line ends, which begin a command; and characters that change
the order in which others are shown. All that Python does not call printable is shown as Python
writes it: ``\\x1b``, ``\\u202e``.
"""


def one_line(text: str) -> str:
    """`text` without anything that isn't seen: line ends and tabs are shown as well."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def lines(text: str) -> str:
    """The same for text that may have several lines: line feeds and tabs stay what they are."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def unwrapped(text: str) -> str:
    """`text` of several lines as one, each white space being a blank."""
    return one_line(" ".join(text.split()))
