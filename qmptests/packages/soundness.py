"""Whether the files of an unpacked tree are those of its packages.

Each package has the MD5 of its files in its control archive (`md5sums`, deb-md5sums(5)); the
package files themselves are named by their SHA-256. Reading all that takes a second, so it is done
when a file's size or a time of it is another than when that was done last (the change time can't be
set back), or when a QEMU failed to start.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qmptests import files
from qmptests.errors import EnvironmentFailure
from qmptests.packages import command, store
from qmptests.packages.store import Package, Tree

#: In a tree's folder: what `_state` was when all its files were sound.
STATE = "sound"
#: What no program runs by.
_UNUSED = frozenset({"doc", "man", "locale"})
#: Prints the md5sums of a package file. `dpkg-deb --info` would unpack it into a temporary folder,
#: which stays if we are killed.
_MD5SUMS = 'dpkg-deb --ctrl-tarfile "$1" | tar -xO --no-anchored md5sums'
#: Trees that this process has looked at, and those whose files it has read, in which state.
_sound: set[Path] = set()
_read: dict[Path, bytes] = {}


def damage(tree: Tree, *, content: bool = False) -> str:
    """What is wrong with a tree's files, in words; "" if nothing is.

    `content`: read them even if none of them seems to have been touched, once in a process.
    """
    if tree.root in _sound and not content:
        return ""
    state = _state(tree.root)
    if state == (_read.get(tree.root) if content else _noted(tree)):
        _sound.add(tree.root)
        return ""
    bad = sorted(_bad(tree))
    if bad:
        more = f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""
        return f"{tree.root / bad[0]} is not the file of its package{more}"
    trust(tree)
    _read[tree.root] = state
    return ""


def _noted(tree: Tree) -> bytes:
    """The state in which the files were sound last, or nothing."""
    with contextlib.suppress(OSError):
        return files.read_bytes(tree.root.parent / STATE)
    return b""


def trust(tree: Tree) -> None:
    """Note that the files are sound as they are now."""
    with contextlib.suppress(OSError):  # a cache that can't be written
        files.replace(tree.root.parent / STATE, _state(tree.root))
    _sound.add(tree.root)


def _state(root: Path) -> bytes:
    """A digest of the sizes and times of all files."""
    lines = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _UNUSED]
        for name in names:
            path = f"{folder}/{name}"
            status = os.lstat(path)
            lines.append(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}")
    text = "\n".join(sorted(lines)).encode(errors="surrogateescape")
    return hashlib.sha256(text).hexdigest().encode() + b"\n"


def _bad(tree: Tree) -> Iterator[str]:
    """Files that none of the packages has with this content."""
    expected: dict[str, set[str]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for sums in pool.map(_sums, tree.packages):
            for path, digest in sums:
                expected.setdefault(path, set()).add(digest)
        paths = [tree.root / path for path in expected]
        for path, digest in zip(expected, pool.map(_md5, paths), strict=True):
            if digest not in expected[path]:
                yield path


def _sums(package: Package) -> list[tuple[str, str]]:
    """Each file of a package and its MD5; nothing if the package file is not there any more."""
    deb = store.deb_path(package.sha256)
    with contextlib.suppress(OSError, EnvironmentFailure):
        if store.sha256_of(deb) == package.sha256:
            # A line for each file: 32 digits, two blanks, its path.
            done = command.run(["sh", "-c", _MD5SUMS, "sh", str(deb)])
            if done.status == 0:
                found = re.findall(r"^([0-9a-f]{32})  (.+)$", done.output, re.MULTILINE)
                return [(path, digest) for digest, path in found]
    return []


def _md5(path: Path) -> str:
    """Of a file's content; "" if it can't be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
    return ""
