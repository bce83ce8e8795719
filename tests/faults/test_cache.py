"""Without a network, and with a cache that can't be written."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests import dirs


def test_an_unknown_suite(start: Callable[..., Any], tmp_path: Path) -> None:
    """Whether the mirror can be asked or not: one line, and no tree in the cache."""
    cache = tmp_path / "cache"
    env = {"QMPTESTS_CACHE": str(cache)}
    command = start("migrate", "--quiet", "--source", "debian:nosuch", env=env)
    ended = command.finish()
    assert ended.status in {2, 3}, ended
    ended.said(ended.status, "debian:nosuch: ")
    assert not list(cache.glob("packages/trees/*"))
    assert not list(command.folder.iterdir())


def test_no_network_and_an_empty_cache(
    start: Callable[..., Any], namespace: Callable[..., tuple[str, ...]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    command = start(
        *("migrate", "--quiet", "--source", "debian:trixie"),
        wrapper=namespace("--net"),
        env={"QMPTESTS_CACHE": str(cache)},
    )
    ended = command.finish()
    ended.said(3, "debian:trixie: the mirror ")
    assert "can't be reached" in ended.err
    assert not list(cache.glob("packages/trees/*"))


def test_no_network_and_a_cache_that_is_filled_and_read_only(
    migrate: Callable[..., Any], namespace: Callable[..., tuple[str, ...]]
) -> None:
    """Everything works: nothing is asked for, and nothing needs to be noted."""
    cache = dirs.cache_dir()
    quoted = shlex.quote(str(cache))
    read_only = f"mount --bind {quoted} {quoted} && mount -o remount,bind,ro {quoted}"
    script = f'{read_only} && ! touch {quoted}/x 2>&- && exec "$@"'
    command = migrate(wrapper=(*namespace("--net"), "sh", "-c", script, "sh"))
    ended = command.finish()
    assert (ended.status, ended.err) == (0, "")
    assert "result       completed" in ended.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_empty_cache_that_can_not_be_made(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    env = {"QMPTESTS_CACHE": str(tmp_path / "closed" / "cache")}
    start("migrate", "--quiet", "--source", "debian:trixie", env=env).finish().said(3, "")
