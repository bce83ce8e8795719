"""Our standard output and error: whatever is written there, nothing of it steers a terminal.

Every line that a command prints, every error, note and traceback passes here, so no command has to
think of it. What we ourselves steer (a line of progress) goes through `rewrite` and `clear`.
"""

import codecs
import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from qmptests import printable

_STDERR = 2


class Screen(io.TextIOWrapper):
    """A stream that shows what would steer, as `printable.lines` does."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        # click replaces a stream in ASCII by one of its own, so this one must not look so.
        self._in_ascii = codecs.lookup(stream.encoding).name == "ascii"
        self._under = stream  # which would close what both write to
        super().__init__(
            stream.buffer,
            encoding="utf-8" if self._in_ascii else stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._of_bytes = _Bytes(self)

    def write(self, text: str) -> int:
        self.steer(printable.lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def steer(self, text: str) -> None:
        """Write `text`, which is our own, as it is."""
        if self._in_ascii:
            text = text.encode("ascii", "backslashreplace").decode()
        with self._unless_closed():
            super().write(text)

    def flush(self) -> None:
        with self._unless_closed():
            super().flush()

    @contextlib.contextmanager
    def _unless_closed(self) -> Iterator[None]:
        """A terminal that was closed (EIO) is no error: there is a signal for that, SIGHUP.

        Neither is a standard error that can't be written: the exit status says what happened.
        """
        try:
            yield
        except OSError as error:
            closed = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
            if not closed and self.fileno() != _STDERR:
                error.filename = "standard output"
                raise
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self.fileno())  # what is still buffered must not fail again
            os.close(null)

    @property
    def buffer(self) -> BinaryIO:
        """For bytes, which are text all the same."""
        return self._of_bytes


class _Bytes(io.RawIOBase, BinaryIO):
    """What is written here is read as UTF-8, and shown by the screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._screen.write(bytes(data).decode(errors="surrogateescape"))
        return len(data)

    def flush(self) -> None:
        self._screen.flush()


def install() -> None:
    """Put a screen in the place of standard output and error, where they are there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, Screen):
            stream.flush()
            setattr(sys, name, Screen(stream))


def rewrite(text: str) -> None:
    """A line on standard error that takes the place of the last one, until `clear`."""
    _steer(f"\r\x1b[K{printable.one_line(text)}")


def coloured(text: str, colour: int) -> None:
    """Write on standard output without a line end, on a terminal in a colour (ANSI's 30 to 37)."""
    stream = sys.stdout
    if isinstance(stream, Screen) and stream.isatty() and "NO_COLOR" not in os.environ:
        stream.steer(f"\x1b[{colour}m{printable.one_line(text)}\x1b[0m")
    else:
        stream.write(text)


def clear() -> None:
    """Take the line away that `rewrite` wrote."""
    _steer("\r\x1b[K")


def _steer(text: str) -> None:
    stream = sys.stderr
    if isinstance(stream, Screen):
        stream.steer(text)
    else:
        stream.write(text)
    stream.flush()
