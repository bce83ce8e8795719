"""Limits of the shell that are too low: the environment's fault, in one line that says which."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from qmptests.outcome import Result, folder


@pytest.fixture
def limited(migrate: Callable[..., Any]) -> Callable[..., Any]:
    if shutil.which("prlimit") is None:
        pytest.skip("no prlimit here")
    return lambda limit, *arguments: migrate(*arguments, wrapper=("prlimit", limit))


def test_too_few_open_files_for_devices(limited: Callable[..., Any]) -> None:
    command = limited("--nofile=64", "--device", "busy")
    ended = command.finish()
    assert (ended.status, len(ended.error_lines)) == (3, 1), ended
    assert "only 64 open files are allowed, and devices need" in ended.err
    result = folder.load(command.folder / "out").result
    assert result in (Result.ENVIRONMENT, Result.EMULATION_FAILED)


def test_too_little_memory(limited: Callable[..., Any]) -> None:
    """Enough to begin; then a folder that is not whole is named, wherever it ran out."""
    command = limited(f"--as={190 << 20}")
    ended = command.finish()
    assert (ended.status, len(ended.error_lines)) == (3, 1), ended
    partial = command.folder / "out.partial"
    assert not partial.exists() or f"evidence: {partial}" in ended.err
