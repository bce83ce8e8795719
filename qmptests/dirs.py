"""Where qmptests keeps what it may keep between runs."""

import os
from pathlib import Path

from qmptests import places
from qmptests.errors import EnvironmentFailure


def cache_dir() -> Path:
    """The user's cache of packages, builds and probe results; not created here.

    `$QMPTESTS_CACHE`, else `$XDG_CACHE_HOME/qmptests`, else `~/.cache/qmptests`. Raises
    EnvironmentFailure where none of them is known, and if others could replace what is in it: we
    run programs from there.
    """
    path = _named()
    if how := places.exposed(path):
        raise EnvironmentFailure(
            f"the cache is not safe to use, {how}: set QMPTESTS_CACHE to a directory of yours that "
            "only you can write"
        )
    return path


def make_in_cache(folder: Path) -> None:
    """Create a folder of the cache, and the cache, which only its user may enter, if need be."""
    cache_dir().mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _named() -> Path:
    own = os.environ.get("QMPTESTS_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser().absolute() / "qmptests"
    except RuntimeError as error:  # no $HOME, and a user who is in no list
        raise EnvironmentFailure(
            f"user {os.getuid()} has no home directory: set QMPTESTS_CACHE or HOME to a directory "
            "that can be written"
        ) from error
