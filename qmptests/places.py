"""Whether somebody else could replace what we keep in a folder. Standard library only."""

import os
import stat
from pathlib import Path


def foreign_link(path: Path) -> str:
    """A link of somebody else's, other than root's, that is part of `path`; "" if there is none."""
    for place in (path, *path.parents):
        if place.is_symlink():
            owner = place.lstat().st_uid
            if owner not in (0, os.geteuid()):
                return f"{place} is a link of user {owner}'s"
    return ""


def exposed(folder: Path, *, sticky: bool = False) -> str:
    """How somebody else could put his own files under the names in `folder`; "" if nobody could.

    Root and ourselves are not somebody else, and who is in a group was let in. `sticky`: it is
    enough if others can write there but not touch what is ours, as in /tmp.
    """
    ours = (0, os.geteuid())
    if link := foreign_link(folder):
        return link
    try:
        status = folder.stat()
    except OSError:
        return ""  # to be made by us, or to be found out by who uses it
    if status.st_uid not in ours:
        return f"{folder} belongs to user {status.st_uid}"
    if status.st_mode & stat.S_IWOTH and not (sticky and status.st_mode & stat.S_ISVTX):
        return f"everybody may write in {folder}"
    return ""
