"""Who may read results: their user alone, unless he says otherwise.

Command lines, logs and memory of VMs can hold what is nobody else's business. A folder that is
still written to is always private; it gets its mode when it is whole.
"""

import contextlib
import os
import re
import stat
from pathlib import Path

from qmptests.errors import InputError

#: What folders of results have unless another mode is asked for. Files have what it says of reading
#: and writing.
PRIVATE = 0o700
_FILE = 0o666


def parse(text: str) -> int:
    """The mode that `--results-mode` gives, in octal as for chmod; raises InputError."""
    if not re.fullmatch(r"0?7[0-7][0-7]", text, re.ASCII):
        raise InputError(
            f"results mode '{text}' is none for a folder of yours: 0700, or such as 0750 or 0755 "
            "for others to read"
        )
    return int(text, 8)


def make(folder: Path, mode: int) -> None:
    """Create `folder` and what is missing of the folders above it; raises OSError."""
    missing = [folder]
    while not missing[-1].parent.exists() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    for place in reversed(missing):
        try:
            place.mkdir(PRIVATE)
        except FileExistsError:
            if place is folder:
                raise
            continue  # another run has made it in the meantime
        if mode != PRIVATE:
            place.chmod(mode)


def of_files(folder: Path) -> int:
    """The mode of a file that is written into a folder of results."""
    with contextlib.suppress(OSError):  # it is gone: whoever writes will say so
        return stat.S_IMODE(folder.stat().st_mode) & _FILE
    return PRIVATE & _FILE


def give(folder: Path, mode: int) -> None:
    """Give a folder of evidence, and all that is in it, its mode; raises OSError for the folder.

    What a wrapper has written as another user stays as it is.
    """
    for place, names, others in os.walk(folder):
        for name in names + others:
            path = Path(place, name)
            with contextlib.suppress(OSError):
                now = path.lstat().st_mode
                if stat.S_ISDIR(now):
                    path.chmod(mode)
                elif stat.S_ISREG(now):
                    runs = now & stat.S_IXUSR
                    path.chmod(mode if runs else mode & _FILE)
    folder.chmod(mode)
