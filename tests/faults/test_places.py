"""Results folders and files that can't be: one line, and nothing half made."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def tree(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def test_a_results_folder_that_is_there_is_not_touched(
    migrate: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "precious").write_text("x")
    command = migrate("--output", tmp_path / "there")
    command.finish().said(2, f"{tmp_path}/there exists already: results are never overwritten")
    assert tree(tmp_path) == ["0", "there", "there/precious"]


def test_a_partial_folder_is_not_touched(migrate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    command = migrate("--output", tmp_path / "out")
    command.finish().said(2, f"{tmp_path}/out.partial is there")
    assert tree(tmp_path) == ["0", "out.partial"]


@pytest.mark.parametrize("output", ["file", "file/below", "dangling"])
def test_a_file_in_the_way(migrate: Callable[..., Any], tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    ended = migrate("--output", tmp_path / output).finish()
    assert ended.status in {2, 3}
    ended.said(ended.status, "")
    assert str(tmp_path) in ended.err
    assert tree(tmp_path) == ["0", "dangling", "file"]


@pytest.mark.parametrize("output", ["/", ".", "..", "x" * 300])
def test_a_name_that_can_not_be(migrate: Callable[..., Any], tmp_path: Path, output: str) -> None:
    ended = migrate("--output", output).finish()
    assert ended.status in {2, 3}
    ended.said(ended.status, "")
    assert tree(tmp_path) == ["0"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_without_permission(
    migrate: Callable[..., Any], tmp_path: Path, mode: int
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(mode)
    ended = migrate("--output", closed / "out").finish()
    closed.chmod(0o700)
    ended.said(3, f"cannot create {closed}/out")
    assert "Permission denied" in ended.err
    assert not list(closed.iterdir())


def test_a_results_folder_on_a_file_system_that_can_not_be_written(
    migrate: Callable[..., Any],
) -> None:
    """/proc: for root too."""
    migrate("--output", "/proc/out").finish().said(3, "cannot create /proc/out.partial: ")


@pytest.mark.parametrize("where", ["missing/outcome.json", ".", "/etc/passwd/outcome.json"])
def test_a_json_file_that_can_not_be_written_is_noticed_before_anything_starts(
    migrate: Callable[..., Any], where: str
) -> None:
    command = migrate("--json", where)
    command.finish().said(2, f"cannot write {where}: ")
    assert not tree(command.folder)


def test_a_json_file_that_fails_in_the_end_costs_neither_report_nor_evidence(
    migrate: Callable[..., Any],
) -> None:
    command = migrate("--json", "/dev/full")
    ended = command.finish()
    ended.said(3, "cannot write /dev/full: No space left on device")
    assert "result       completed" in ended.out
    assert (command.folder / "out" / "outcome.json").exists()


def test_a_working_directory_that_was_removed(migrate: Callable[..., Any]) -> None:
    shell = ("sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh")
    command = migrate(wrapper=shell)
    command.finish().said(3, "the working directory was removed: go to another one")
