"""TOML files that people write: each error is one line with the file, and the line or the key."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qmptests import files
from qmptests.errors import InputError

T = TypeVar("T")


def read(path: Path, kind: str) -> str:
    """The text of a file; `kind` says what it is in errors. Raises InputError."""
    try:
        return files.read_bytes(path).decode()
    except OSError as error:
        raise InputError(f"cannot read {kind} {path}: {error.strerror}") from error
    except ValueError as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError(f"cannot read {kind} {path}: {reason}") from error


def parse(text: str, where: str) -> dict[str, Any]:
    """The tables in `text`, which `where` names in errors. Raises InputError with the line."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = place[1] if place and place[1] else text.count("\n") + 1
        what = str(error)[: place.start()].strip() if place else str(error)
        raise InputError(f"{where}:{line}: not valid TOML: {what}") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error
    except ValueError as error:  # a number or a date that Python can't hold, and no line is told
        raise InputError(f"{where}: a value is impossible: {error}") from error
    _check(tables, where, "")
    return tables


def _check(value: object, where: str, key: str) -> None:
    """Raise InputError for what neither JSON nor a command line can hold."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(name, where, f"{key}.{name}")
            _check(inner, where, f"{key}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check(inner, where, f"{key}[{number}]")
    elif isinstance(value, str) and "\0" in value:
        raise InputError(f"{where}: {key[1:]!r}: a NUL can't be passed to QEMU")
    elif isinstance(value, int | float) and not abs(value) <= files.LARGEST_NUMBER:
        raise InputError(f"{where}: {key[1:]}: the number is out of range")


def structure(data: Mapping[str, Any], where: str, kind: type[T]) -> T:
    """`data` as an instance of `kind`, a Struct.

    Raises InputError with the key; one from the Struct's own checks begins with it.
    """
    try:
        return msgspec.convert(data, kind)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except msgspec.ValidationError as error:
        # msgspec says "Expected `int`, got `str` - at `$.cpus`".
        what, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$").removeprefix(".")
        raise InputError(f"{where}: {key}: {what}" if key else f"{where}: {what}") from error


def convert(text: str, where: str, kind: type[T], **defaults: Any) -> T:
    """Both in one: what `text` says, and `defaults` for the keys that it does not have."""
    return structure({**defaults, **parse(text, where)}, where, kind)
