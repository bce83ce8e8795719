"""Fetching with the machine's own apt, from an archive that can be made to misbehave."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qmptests import packages
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.packages import apt, store

if TYPE_CHECKING:
    from tests.packages.conftest import Archive

FETCH = """
import sys
from qmptests import packages
print(packages.fetch(sys.argv[1], sys.argv[2:], progress=lambda _: None).root)
"""


def fetch(suite: str, *names: str, refresh: bool = False) -> packages.Tree:
    return packages.fetch(suite, names, progress=lambda _: None, refresh=refresh)


def start_fetch(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def republish(archive: "Archive", version: str) -> None:
    archive.withdraw("leaf")
    archive.build("leaf", "water", version)
    archive.build("leaf", "tea", version, depends="water")
    archive.publish("leaf", apt.machine().architecture)


def everything_in_store() -> list[str]:
    kept = ("debs", "trees", "work")
    return [str(p) for name in kept for p in (store.directory() / name).glob("*")]


def test_a_package_comes_with_what_it_depends_on(archive: "Archive") -> None:
    tree = fetch("leaf", "tea")
    assert [(item.name, item.version) for item in tree.packages] == [
        ("tea", "2-leaf"),
        ("water", "1-leaf"),
    ]
    assert (tree.root / "usr/share/tea/version").read_text() == "2-leaf"
    assert (tree.root / "usr/share/water/version").read_text() == "1-leaf"


def test_a_second_fetch_asks_nobody(archive: "Archive") -> None:
    first = fetch("leaf", "tea")
    archive.requests.clear()
    assert fetch("leaf", "tea") == first
    assert archive.requests == []


def test_another_package_of_a_known_suite_needs_no_new_lists(archive: "Archive") -> None:
    fetch("leaf", "water")
    archive.requests.clear()
    fetch("leaf", "tea")
    assert archive.requests == ["/debian/pool/tea_2-leaf_all.deb"]


def test_the_same_packages_are_the_same_tree(archive: "Archive") -> None:
    assert fetch("leaf", "tea").root == fetch("leaf", "tea", "water").root


def test_refresh_finds_what_is_new_and_keeps_what_was(archive: "Archive") -> None:
    old = fetch("leaf", "tea")
    republish(archive, "3")
    assert fetch("leaf", "tea") == old
    new = fetch("leaf", "tea", refresh=True)
    assert new.version("tea") == "3"
    assert fetch("leaf", "tea") == new
    assert packages.find("leaf", old.digest) == old


def test_lists_that_are_out_of_date_are_fetched_anew(archive: "Archive") -> None:
    fetch("leaf", "water")
    republish(archive, "3")
    assert fetch("leaf", "tea").version("tea") == "3"


def test_an_unknown_suite_is_bad_input_and_leaves_nothing(archive: "Archive") -> None:
    with pytest.raises(InputError, match=r"debian:root: the mirror .* has no such suite"):
        fetch("root", "tea")
    assert not list((store.directory() / "suites").iterdir())


def test_an_unknown_package_is_bad_input(archive: "Archive") -> None:
    with pytest.raises(InputError, match="debian:leaf has no package coffee"):
        fetch("leaf", "coffee")


@pytest.mark.parametrize("suite", ["", "Leaf", "../leaf", "-t", "leaf sid"])
def test_what_is_no_suite_name_never_reaches_apt(archive: "Archive", suite: str) -> None:
    with pytest.raises(InputError, match="names no suite"):
        fetch(suite, "tea")
    assert archive.requests == []


def test_a_corrupted_download_is_noticed_and_nothing_of_it_kept(archive: "Archive") -> None:
    archive.corrupt = True
    with pytest.raises(EnvironmentFailure, match="corrupted"):
        fetch("leaf", "tea")
    assert everything_in_store() == []
    archive.corrupt = False
    assert fetch("leaf", "tea").version("tea") == "2-leaf"


def test_what_is_not_what_was_signed_does_not_get_into_the_cache(
    archive: "Archive", tmp_path: Path
) -> None:
    (tmp_path / "cache/packages").mkdir(parents=True)
    (tmp_path / "x.deb").write_bytes(b"x")
    with pytest.raises(EnvironmentFailure, match="corrupted"):
        store.keep_deb(tmp_path / "x.deb", "0" * 64)
    assert everything_in_store() == []


def test_a_damaged_file_in_the_cache_is_noticed_and_replaced(archive: "Archive") -> None:
    tree = fetch("leaf", "tea")
    deb = store.deb_path(next(item.sha256 for item in tree.packages if item.name == "tea"))
    deb.write_bytes(deb.read_bytes()[:-1] + b"\0")
    shutil.rmtree(tree.root.parent)
    archive.requests.clear()
    said: list[str] = []
    again = packages.fetch("leaf", ["tea"], progress=said.append)
    assert again == tree
    assert (tree.root / "usr/share/tea/version").read_text() == "2-leaf"
    assert any("damaged" in line for line in said)
    assert archive.requests == ["/debian/pool/tea_2-leaf_all.deb"]


def test_a_mirror_that_is_down_is_one_line_and_what_is_cached_still_works(
    archive: "Archive", tmp_path: Path
) -> None:
    tree = fetch("leaf", "tea")
    source = tmp_path / "sources.list.d/debian.sources"
    address = "http://127.0.0.1:9/debian"  # discard: nobody listens
    lines = source.read_text().splitlines()
    lines[1] = f"URIs: {address}"
    source.write_text("\n".join(lines) + "\n")
    with pytest.raises(EnvironmentFailure, match=f"{address} can't be reached") as caught:
        fetch("twig", "tea")
    assert "\n" not in str(caught.value)
    assert fetch("leaf", "tea") == tree


def test_the_systems_own_apt_hooks_do_not_run(archive: "Archive", tmp_path: Path) -> None:
    fetch("leaf", "tea")
    assert not (tmp_path / "hook-has-run").exists()


def test_a_killed_fetch_leaves_nothing_half_made(archive: "Archive") -> None:
    archive.hold = threading.Event()
    process = start_fetch("leaf", "tea")
    assert archive.held.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((store.directory() / "work").iterdir())
    assert not (store.directory() / "trees").exists()
    # What it had started holds the lock while it lives: it must not wait for its download.
    before = time.monotonic()
    with store.locked(lambda _: None):
        assert time.monotonic() - before < 30
    archive.hold.set()
    archive.hold = None
    tree = fetch("leaf", "tea")
    assert tree.version("water") == "1-leaf"
    assert not (store.directory() / "work").exists()


def test_two_processes_that_fetch_at_once_share_the_work(archive: "Archive") -> None:
    archive.hold = threading.Event()
    both = [start_fetch("leaf", "tea") for _ in range(2)]
    assert archive.held.wait(60)
    archive.hold.set()
    roots = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(roots) == 1
    assert len(archive.asked_for(".deb")) == 2


def test_the_owner_may_read_and_remove_all_of_it_and_no_rights_are_given_away(
    archive: "Archive",
) -> None:
    tree = fetch("leaf", "tea")
    share = tree.root / "usr/share/tea"
    assert (share / "setuid").stat().st_mode & 0o7777 == 0o555
    assert (share / "closed").stat().st_mode & 0o7777 == 0o700


def test_removing_a_tree_keeps_what_another_one_is_made_of(archive: "Archive") -> None:
    water, tea = fetch("leaf", "water"), fetch("leaf", "tea")
    packages.remove(tea.digest, progress=lambda _: None)
    assert not tea.root.exists()
    assert water.root.exists()
    assert len(list((store.directory() / "debs").iterdir())) == 1
    packages.remove(water.digest, progress=lambda _: None)
    assert everything_in_store() == []


def test_a_cache_that_cannot_be_written_is_one_line(
    archive: "Archive", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMPTESTS_CACHE", "/sys/qmptests")  # not even root may write there
    with pytest.raises(EnvironmentFailure, match=r"the cache can't be written .*QMPTESTS_CACHE"):
        fetch("leaf", "tea")


def test_a_full_disk_is_one_line_and_is_left_clean(archive: "Archive", tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    script = f"""
        mount -t tmpfs -o size=64k,mode=0700 none {tmp_path}/cache || exit 77
        {sys.executable} -c "$FETCH" leaf tea 2>&1
        ls {tmp_path}/cache/packages
    """
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.geteuid() == 0 else ["-r"]), "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FETCH": FETCH},
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small file system is not allowed here")
    assert "EnvironmentFailure: the disk under the cache is full" in done.stdout
    assert "work" not in done.stdout.splitlines()[-4:]
