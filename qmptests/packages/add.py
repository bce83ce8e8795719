"""Add a set of packages to the store: resolve, download, verify, unpack."""

from collections.abc import Callable, Sequence
from pathlib import Path

from qmptests.packages import soundness, store
from qmptests.packages.apt import Download, PrivateApt, Superseded, machine
from qmptests.packages.store import Package, Tree


def add(
    suite: str,
    packages: Sequence[str],
    *,
    progress: Callable[[str], None],
    refresh: bool,
) -> Tree:
    """See `qmptests.packages.fetch`; this is the part for what is not in the store or not sound."""
    machine()  # says so where there is no apt, before anything is made
    with store.explained(), store.locked(progress) as lock:
        # Another process may have added it while we waited for the lock.
        if not refresh and (tree := store.recall(suite, packages)) is not None and _is_sound(tree):
            return tree
        with store.work_directory() as work:
            tree = _add(suite, packages, progress=progress, refresh=refresh, work=work, lock=lock)
            store.remember(packages, tree, work)
            return tree


def _add(
    suite: str,
    names: Sequence[str],
    *,
    progress: Callable[[str], None],
    refresh: bool,
    work: Path,
    lock: int,
) -> Tree:
    apt = PrivateApt(suite, lists=store.lists_directory(suite), work=work, lock=lock)
    fresh = refresh or not apt.has_lists()
    if fresh:
        progress(f"debian:{suite}: asking the mirror for its package lists")
        try:
            apt.update()
        except BaseException:
            store.forget_unknown_suite(suite)
            raise
    wanted = apt.resolve(names)
    try:
        _download(apt, wanted, suite, progress, work)
    except Superseded:
        if fresh:
            raise
        progress(f"debian:{suite}: the package lists are out of date, asking for new ones")
        apt.update()
        wanted = apt.resolve(names)
        _download(apt, wanted, suite, progress, work)
    packages = [Package(item.name, item.version, item.sha256) for item in wanted]
    tree = store.find_tree(suite, store.digest_of(packages))
    if tree is None or not _is_sound(tree):
        progress(f"debian:{suite}: unpacking {len(packages)} packages")
        tree = store.unpack(suite, packages, work, lock)
        soundness.trust(tree)
    return tree


def _is_sound(tree: Tree) -> bool:
    return not soundness.damage(tree)


def _download(
    apt: PrivateApt,
    wanted: Sequence[Download],
    suite: str,
    progress: Callable[[str], None],
    work: Path,
) -> None:
    """Bring every wanted file into the store, unless its tree is there or it is there, sound."""
    packages = [Package(item.name, item.version, item.sha256) for item in wanted]
    tree = store.find_tree(suite, store.digest_of(packages))
    if tree is not None and _is_sound(tree):
        return
    missing = []
    for item in wanted:
        damaged = store.deb_path(item.sha256).exists()
        if not store.has_sound_deb(item.sha256):
            missing.append((item, work / f"{item.sha256}.deb"))
            if damaged:
                progress(f"{item.name}: its file in the cache is damaged, downloading it again")
    if not missing:
        return
    size = sum(item.size for item, _ in missing) / 1e6
    total = len(missing)
    what = f"debian:{suite}: downloading packages ({size:.0f} MB)"
    progress(what)
    apt.download(missing, lambda count: progress(f"{what}, {min(count, total)} of {total}"))
    for item, path in missing:
        store.keep_deb(path, item.sha256)
