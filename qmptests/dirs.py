"""Where qmptests keeps what it may keep between runs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The user's cache of packages, builds and probe results; not created here.

    `$QMPTESTS_CACHE`, else `$XDG_CACHE_HOME/qmptests`, else `~/.cache/qmptests`.
    """
    own = os.environ.get("QMPTESTS_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "qmptests"
