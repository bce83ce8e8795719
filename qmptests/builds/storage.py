"""Small JSON files under the cache, replaced atomically, which notice that they were damaged.

The last member of each object is `check`, a digest of the others. A file without one was written by
an older version, and is taken as it is.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qmptests import dirs, files

T = TypeVar("T")

_CHECK = re.compile(rb',"check":"([0-9a-f]{32})"}$')


class DamagedError(Exception):
    """The file at `path` is not what was written there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")
        self.path = path


def builds_directory() -> Path:
    """Where what is known of builds is kept."""
    return dirs.cache_dir() / "builds"


def read_json(path: Path, kind: type[T]) -> T | None:
    """The file's content, or None if it is not there. Raises DamagedError."""
    try:
        data = files.read_bytes(path)
        check = _CHECK.search(data)
        if check and check[1] != _digest(data[: check.start()] + b"}"):
            raise DamagedError(path)
        found: T = files.decode(data, kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(path) from error
    return found


def recall(path: Path, kind: type[T]) -> T | None:
    """The same of what can be had again: None also if it is damaged."""
    try:
        return read_json(path, kind)
    except DamagedError:
        return None


def write_json(path: Path, value: Any) -> bool:
    """Replace the file; False where the cache can't be written, since what it holds can be had
    again."""
    try:
        replace(path, value)
    except OSError:
        return False
    return True


def replace(path: Path, value: Any) -> None:
    """Put an object into place in one step; raises OSError and leaves what was there then."""
    data = msgspec.json.encode(value)
    dirs.make_in_cache(path.parent)
    files.replace(path, data[:-1] + b',"check":"%s"}' % _digest(data))


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest()[:32].encode()
