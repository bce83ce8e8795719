"""Files of a run, read without trust and written in one step.

What was written here may have been damaged, cut off or replaced since: whatever is in its place,
reading ends, in bounded memory, with the content or with one line.
"""

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import msgspec

from qmptests import places
from qmptests.errors import EnvironmentFailure, InputError

T = TypeVar("T")

#: Bytes. A larger file is none that is read as a whole.
LARGEST = 1 << 26
#: The same of a log, which is read piece by piece.
LARGEST_LOG = 1 << 34
#: A larger number is none that anything here counts or measures.
LARGEST_NUMBER = 1 << 63

#: Seconds since the epoch that can be told as a date: up to the year 9999.
Instant = Annotated[float, msgspec.Meta(ge=0, lt=253402214400)]
#: A time of a log's line in microseconds: it fits into a float with all its digits.
Microseconds = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]
#: A count in a log's line.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]

#: What a number that is too large has in JSON: many digits or an exponent.
_LONG_NUMBER = re.compile(rb"[:\[,]\s*-?[0-9.]*(?:[0-9]{18}|[0-9][eE]\+?[0-9])")


def within(folder: Path, name: str) -> Path:
    """`folder / name`; raises InputError if a link, a ".." or an absolute name leads out of it.

    Results may be somebody else's: what they name must not have other files of ours read and told.
    """
    path = folder / name
    try:
        real = Path(os.path.realpath(path))
    except ValueError as error:  # a NUL, or half a character
        raise InputError(f"{path}: no file can have this name") from error
    if not real.is_relative_to(os.path.realpath(folder)):
        raise InputError(f"{path} leads out of {folder}, to {real}: it is not read")
    return path


def open_to_read(path: Path) -> io.FileIO:
    """The file, not buffered; raises OSError, also for what could hold up its reader for ever.

    That is a device, a socket, and a pipe with a name, which nobody may ever write to. A pipe
    without one is what a shell's `<(command)` gives.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a NUL, or half a character
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from error
    try:
        kind = os.fstat(descriptor)
        if stat.S_ISDIR(kind.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        is_null = stat.S_ISCHR(kind.st_mode) and kind.st_rdev == Path(os.devnull).stat().st_rdev
        if not (stat.S_ISREG(kind.st_mode) or is_null or _is_unnamed_pipe(descriptor)):
            raise OSError(errno.EINVAL, "not an ordinary file", str(path))
        os.set_blocking(descriptor, True)
        return io.FileIO(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def open_log(path: Path) -> io.FileIO:
    """The same for a log; raises OSError also for one that would take hours to be read."""
    file = open_to_read(path)
    if os.fstat(file.fileno()).st_size > LARGEST_LOG:
        file.close()
        raise OSError(errno.EFBIG, f"larger than {LARGEST_LOG >> 30} GiB", str(path))
    return file


def _is_unnamed_pipe(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:")
    return False


def read_bytes(path: Path) -> bytes:
    """The whole content; raises OSError as `open_to_read`, and for more than LARGEST."""
    with io.BufferedReader(open_to_read(path)) as file:
        data = file.read(LARGEST + 1) if os.fstat(file.fileno()).st_size <= LARGEST else None
    if data is None or len(data) > LARGEST:
        raise OSError(errno.EFBIG, f"larger than {LARGEST >> 20} MiB", str(path))
    return data


def read_json(
    file: Path,
    kind: type[T],
    what: str,
    *,
    schema: int | None = None,
    dec_hook: Callable[[type, Any], Any] | None = None,
) -> T:
    """The content of a JSON file, which is `what`; with `schema` it must have this number.

    Raises InputError if there is no such file, or it is something else.
    """
    try:
        data = read_bytes(file)
    except OSError as error:
        raise InputError(f"no {what} in {file.parent}: {error.strerror}") from error
    try:
        if schema is None:
            return decode(data, kind, dec_hook)
        raw: Any = decode(data, Any)
        found = raw.get("schema") if isinstance(raw, dict) else None
        if found != schema:
            author = raw.get("qmptests") if isinstance(raw, dict) else None
            hint = f": use the version that wrote it ({author})" if author else ""
            raise InputError(f"{file} has schema {found}, this qmptests reads {schema}{hint}")
        return msgspec.convert(raw, kind, dec_hook=dec_hook)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no {what}: {error}") from error


def decode(
    data: bytes, kind: type[T] | Any, dec_hook: Callable[[type, Any], Any] | None = None
) -> T:
    """JSON as `kind`; raises ValueError (msgspec's and Unicode's are such) and RecursionError.

    A number that nothing can count or measure is refused wherever it stands: each use of it would
    be a trap (a date, a float, a loop).
    """
    if _LONG_NUMBER.search(data):
        _check_numbers(msgspec.json.decode(data), "$")
    made: T = msgspec.json.decode(data, type=kind, dec_hook=dec_hook)
    return made


def _check_numbers(value: object, place: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_numbers(inner, f"{place}[{number}]")
    elif isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"Number out of range - at `{place}`")


def replace(path: Path, data: bytes, mode: int | None = None) -> None:
    """Put `data` into place in one step; raises OSError, and leaves what was there then.

    `mode`: the file's; else that of what was there, or what the umask leaves.
    """
    with _replacing(path, mode) as file:
        file.write(data)


def write(path: Path, data: bytes, mode: int | None = None) -> None:
    """The same; raises EnvironmentFailure."""
    with explained(path):
        replace(path, data, mode)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """A text file that is put into place at the end; raises EnvironmentFailure, and as `replace`.

    Errors of what is written do not count as the file's.
    """
    with explained(path), _replacing(path) as file, io.TextIOWrapper(file, "utf-8") as text:
        yield text


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's error on a file that is written into one line."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {path}: {error.strerror}") from error


def _open_to_write(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from this pipe", path) from error
        raise
    os.set_blocking(descriptor, True)
    return descriptor


@contextlib.contextmanager
def _replacing(path: Path, mode: int | None = None) -> Iterator[io.BufferedWriter]:
    """A file that gets this name once it is whole; what is no ordinary file is written to.

    Not through a link of somebody else's, nor with the mode of his file; nor is a reader waited for
    where there is none.
    """
    if link := places.foreign_link(path):
        raise OSError(errno.EPERM, f"{link}, it is not written through", str(path))
    target = Path(os.path.realpath(path))
    # By its own name: /dev/fd/63 of a shell's `>(command)` leads to a name that no file has.
    if path.exists() and not path.is_file():
        with open(path, "wb", opener=_open_to_write) as file:
            yield file
        return
    new = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}.new")
    try:
        with new.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
        if mode is None and target.exists() and target.stat().st_uid == os.geteuid():
            new.chmod(stat.S_IMODE(target.stat().st_mode))
        new.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
