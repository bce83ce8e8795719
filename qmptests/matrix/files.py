"""JSON files of a run folder, each with the number of its schema."""

from pathlib import Path
from typing import TypeVar

import msgspec

from qmptests.errors import InputError

T = TypeVar("T")


def read(file: Path, kind: type[T], schema: int, what: str) -> T:
    """The content of `file`, which is `what`; raises InputError if it is not, or is not there."""
    try:
        raw = msgspec.json.decode(file.read_bytes())
        found = raw.get("schema") if isinstance(raw, dict) else None
        if found != schema:
            raise InputError(f"{file} has schema {found}, this qmptests reads {schema}")
        return msgspec.convert(raw, kind)
    except OSError as error:
        raise InputError(f"no {what} in {file.parent}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is no {what}: {error}") from error
