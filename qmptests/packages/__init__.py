"""A distribution's packages, unpacked with their dependencies into our cache; no root needed.

    tree = fetch("trixie", ["qemu-system-x86"], progress=print)
    tree.root / "usr/bin/qemu-system-x86_64"

apt's own resolver works in a private state, the mirror and its keyring are those of the machine's
apt configuration. The same set of packages is the same tree, whichever request led to it.
"""

import re
from collections.abc import Callable, Sequence

from qmptests.errors import InputError
from qmptests.packages import soundness, store
from qmptests.packages.store import Package, Tree

__all__ = ["Package", "Tree", "damage", "fetch", "find", "remove"]


def fetch(
    suite: str,
    packages: Sequence[str],
    *,
    progress: Callable[[str], None],
    refresh: bool = False,
    repair: bool = False,
) -> Tree:
    """`packages` of the Debian suite `suite` with all that they depend on, as a tree.

    What was fetched before is found without asking anybody, until `refresh` asks the mirror again.
    With `repair` a tree whose files are damaged is unpacked again; else look at its `damage`.
    `progress` gets a line for each step that takes time.

    Raises InputError for a suite or package that the mirror doesn't have, EnvironmentFailure if
    this machine has no apt or no Debian source, the mirror can't be reached, a download is
    corrupted, or the cache is full or can't be written. Nothing half made is left in any case.
    """
    if not re.fullmatch(r"[a-z][a-z0-9.-]*", suite):
        raise InputError(
            f"'debian:{suite}' names no suite: write, for example, debian:trixie-backports"
        )
    for name in packages:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
            raise InputError(f"'{name}' is not the name of a Debian package")
    if not refresh and (tree := store.recall(suite, packages)) is not None:
        what = repair and damage(tree)
        if not what:
            return tree
        progress(f"debian:{suite}: {what}")
    from qmptests.packages.add import add  # noqa: PLC0415 - what is known needs no apt

    return add(suite, packages, progress=progress, refresh=refresh)


def find(suite: str, digest: str) -> Tree | None:
    """The tree with this digest, if it is in the store."""
    return store.find_tree(suite, digest)


def damage(tree: Tree, *, content: bool = False) -> str:
    """What is wrong with the files of a tree, in words, or "" if they are those of its packages.

    They are read if they seem to have been touched since that was done last, or for `content`.
    """
    return soundness.damage(tree, content=content)


def remove(digest: str, *, progress: Callable[[str], None]) -> None:
    """Remove a tree, and its package files where no other tree needs them."""
    with store.explained():
        store.remove_tree(digest, progress)
