"""Where qmptests keeps what it may keep between runs."""

import os
from pathlib import Path

from qmptests.errors import EnvironmentFailure


def cache_dir() -> Path:
    """The user's cache of packages, builds and probe results; not created here.

    `$QMPTESTS_CACHE`, else `$XDG_CACHE_HOME/qmptests`, else `~/.cache/qmptests`. Raises
    EnvironmentFailure where none of them is known.
    """
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
