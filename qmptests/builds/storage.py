"""Small JSON files under the cache, replaced atomically."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qmptests import dirs, files

T = TypeVar("T")


def builds_directory() -> Path:
    """Where what is known of builds is kept."""
    return dirs.cache_dir() / "builds"


def read_json(path: Path, kind: type[T]) -> T | None:
    """The file's content, or None if it is not there or not what it should be."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def write_json(path: Path, value: Any) -> bool:
    """Replace the file; False where the cache can't be written, since what it holds can be had
    again."""
    try:
        replace(path, msgspec.json.encode(value))
    except OSError:
        return False
    return True


def replace(path: Path, data: bytes) -> None:
    """Put `data` into place in one step; raises OSError and leaves nothing behind then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, data)
