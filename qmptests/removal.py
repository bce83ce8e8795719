"""Removing a folder of ours from a place where others can write: by descriptor, through no link.

Standard library only: the launcher uses it.
"""

import contextlib
import errno
import os
import stat


def open_private(path: str) -> int:
    """A descriptor of a folder that is ours alone: no link, our user's, closed to all others.

    Raises OSError, PermissionError for a folder that is somebody else's.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(folder)
        raise PermissionError(errno.EPERM, "not a folder of this user alone", path)
    return folder


def is_at(path: str, folder: int) -> bool:
    """Whether the folder that is open still has this name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(folder))
    except FileNotFoundError:
        return False


def remove_private(path: str) -> None:
    """Remove such a folder with all that is in it; anything else of that name is left alone.

    What can't be removed stays, without a word.
    """
    with contextlib.suppress(OSError):
        folder = open_private(path)
        try:
            remove_opened(path, folder)
        finally:
            os.close(folder)


def remove_opened(path: str, folder: int) -> None:
    """The same for one that is open as `folder`. Raises OSError if something stays.

    Its content goes by the descriptor. Its name may mean something else meanwhile: of that no more
    than an empty folder can go.
    """
    if os.listdir(folder):
        import shutil  # noqa: PLC0415 - slow to import, and mostly there is nothing

        assert shutil.rmtree.avoids_symlink_attacks
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.name, ignore_errors=True, dir_fd=folder)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.name, dir_fd=folder)
    os.rmdir(path)
