"""The cache of packages: every file named by its content, every change atomic.

    packages/lock                     held (flock) by whoever adds or removes, whose pid is in it
    packages/debs/SHA256.deb          package files as downloaded
    packages/trees/DIGEST/root/       a set of packages, unpacked
    packages/trees/DIGEST/tree.json   which packages these are
    packages/trees/DIGEST/sound       what its files were like when they were sound: `soundness`
    packages/suites/SUITE/lists/      apt's package lists
    packages/suites/SUITE/KEY.json    the tree that a request for packages of SUITE led to
    packages/work/                    what is being added; left-overs go at the next add

What is complete was renamed into place, so reading needs no lock.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import msgspec

from qmptests import dirs, files, locking
from qmptests.errors import EnvironmentFailure
from qmptests.packages import command

T = TypeVar("T")


class Package(msgspec.Struct, frozen=True, order=True):
    """One package of a tree, as the archive names it."""

    name: str
    version: str
    sha256: str
    """Of the package file."""


class Tree(msgspec.Struct, frozen=True):
    """Packages with all that they depend on, unpacked under `root`."""

    root: Path
    suite: str
    digest: str
    """Of the set of packages: the same names, versions and hashes give the same tree."""
    packages: tuple[Package, ...]

    def version(self, name: str) -> str | None:
        """The version of the package `name`, or None if it is not part of the tree."""
        return next((item.version for item in self.packages if item.name == name), None)


class _Index(msgspec.Struct, frozen=True):
    """What a request led to; also what a tree says of itself."""

    suite: str
    digest: str
    packages: tuple[Package, ...]


def directory() -> Path:
    """Where packages are kept."""
    return dirs.cache_dir() / "packages"


def digest_of(packages: Sequence[Package]) -> str:
    """The name of the tree that holds exactly these packages."""
    return hashlib.sha256(msgspec.json.encode(sorted(packages))).hexdigest()[:32]


@contextlib.contextmanager
def explained(what: str = "") -> Iterator[None]:
    """Turn the operating system's errors on the cache into one line with a remedy."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or what or directory())
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            line = (
                f"the disk under the cache is full ({where}): free some space there, or set "
                "QMPTESTS_CACHE to a directory on another disk"
            )
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            line = (
                f"the cache can't be written ({where}: {error.strerror}): set QMPTESTS_CACHE to a "
                "directory that can"
            )
        else:
            line = f"the cache can't be used ({where}: {error.strerror})"
        raise EnvironmentFailure(line) from error


def locked(progress: Callable[[str], None]) -> AbstractContextManager[int]:
    """Hold the store's lock, as `locking.held` does. Waits for another process's add to end."""
    return locking.held(directory() / "lock", "the cache of packages", progress)


@contextlib.contextmanager
def work_directory() -> Iterator[Path]:
    """A directory for one add, on the store's file system, with the lock held.

    Whatever interrupted adds have left is removed first.
    """
    work = directory() / "work"
    delete(work)
    work.mkdir()
    path = Path(tempfile.mkdtemp(dir=work))
    try:
        yield path
    finally:
        delete(work)


def delete(path: Path) -> None:
    """Remove a directory with all that is in it, also where it denies its owner to write."""

    def unlock_and_retry(function: object, name: str, _: object) -> None:
        if function is os.rmdir or not callable(function):
            return
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            if not Path(name).is_symlink():
                Path(name).chmod(0o700)
            function(name)

    if path.exists():
        shutil.rmtree(path, onerror=unlock_and_retry)
    if path.exists():
        shutil.rmtree(path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def deb_path(sha256: str) -> Path:
    """Where the package file with this hash is or would be."""
    return directory() / "debs" / f"{sha256}.deb"


def has_sound_deb(sha256: str) -> bool:
    """Whether the package file is there and is what it should be; a damaged one is removed."""
    path = deb_path(sha256)
    if not path.exists():
        return False
    if sha256_of(path) == sha256:
        return True
    path.unlink()
    return False


def keep_deb(path: Path, sha256: str) -> None:
    """Move a downloaded file into the store if its content is what the archive signed."""
    if sha256_of(path) != sha256:
        raise EnvironmentFailure(
            f"a downloaded package was corrupted on its way ({path.name}), nothing of it was kept: "
            "try again"
        )
    target = deb_path(sha256)
    target.parent.mkdir(exist_ok=True)
    # A mirror on a local file system may hand out a link to its own file.
    if path.is_symlink():
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        path = copy
    path.rename(target)


def find_tree(suite: str, digest: str) -> Tree | None:
    """The tree with this digest if it is in the store."""
    home = directory() / "trees" / digest
    index = _read(home / "tree.json", _Index)
    return None if index is None else Tree(home / "root", suite, digest, index.packages)


def _read(path: Path, kind: type[T]) -> T | None:
    """A file of the store; None if it is not there or damaged, since it can be had again."""
    try:
        found: T = files.decode(files.read_bytes(path), kind)
    except (OSError, ValueError, RecursionError):
        return None
    return found


def unpack(suite: str, packages: Sequence[Package], work: Path, lock: int) -> Tree:
    """Unpack sound package files of the store into a tree and put it into place."""
    digest = digest_of(packages)
    home = work / "tree"
    root = home / "root"
    root.mkdir(parents=True)

    def unpack_one(package: Package) -> None:
        done = command.run(["dpkg-deb", "-x", str(deb_path(package.sha256)), str(root)], lock=lock)
        if done.status == 0:
            return
        if "No space left on device" in done.output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory()))
        last = (done.output.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentFailure(f"can't unpack {package.name} {package.version}: {last}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in [pool.submit(unpack_one, package) for package in packages]:
            try:
                result.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    _open_to_owner(root)
    index = _Index(suite, digest, tuple(sorted(packages)))
    (home / "tree.json").write_bytes(msgspec.json.encode(index))
    final = directory() / "trees" / digest
    final.parent.mkdir(exist_ok=True)
    delete(final)  # only a damaged one can be there
    home.rename(final)
    return Tree(final / "root", suite, digest, index.packages)


def _open_to_owner(root: Path) -> None:
    """Let the owner read and remove everything; drop the bits that give rights away."""
    for folder, _, names in os.walk(root):
        mode = stat.S_IMODE(Path(folder).stat().st_mode)
        Path(folder).chmod((mode & 0o777) | 0o700)
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                continue
            mode = stat.S_IMODE(status.st_mode)
            wanted = (mode & 0o777) | 0o400
            if mode != wanted:
                path.chmod(wanted)


def _request_path(suite: str, packages: Sequence[str]) -> Path:
    key = hashlib.sha256("\n".join(sorted(set(packages))).encode()).hexdigest()[:32]
    return directory() / "suites" / suite / f"{key}.json"


def recall(suite: str, packages: Sequence[str]) -> Tree | None:
    """The tree that the same request led to last time, if it still is in the store."""
    digest = _read(_request_path(suite, packages), str)
    known = digest is not None and re.fullmatch(r"[0-9a-f]{32}", digest)
    return find_tree(suite, digest) if digest and known else None


def remember(packages: Sequence[str], tree: Tree, work: Path) -> None:
    """Note which tree a request led to."""
    path = _request_path(tree.suite, packages)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = work / "request.json"
    note.write_bytes(msgspec.json.encode(tree.digest))
    note.replace(path)


def lists_directory(suite: str) -> Path:
    """Where apt keeps the package lists of a suite."""
    return directory() / "suites" / suite / "lists"


def forget_unknown_suite(suite: str) -> None:
    """Remove what a failed update left of a suite of which nothing is known."""
    home = directory() / "suites" / suite
    if not any(home.glob("*.json")) and not any(home.glob("lists/*Release")):
        delete(home)


def remove_tree(digest: str, progress: Callable[[str], None]) -> None:
    """Remove a tree and the package files that no other tree is made of."""
    with locked(progress), work_directory() as work:
        home = directory() / "trees" / digest
        tree = find_tree("", digest)
        if home.exists():
            home.rename(work / "removed")
        if tree is None:
            return
        used: set[str] = set()
        for other in (directory() / "trees").glob("*/tree.json"):
            if (index := _read(other, _Index)) is not None:
                used.update(package.sha256 for package in index.packages)
        for package in tree.packages:
            if package.sha256 not in used:
                deb_path(package.sha256).unlink(missing_ok=True)
