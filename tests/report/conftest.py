"""A run of one real migration, for all that reads runs."""

import subprocess
import sys
from pathlib import Path

import pytest

NEW = "debian:trixie-backports"


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    options = ["--build", NEW, "--same-build", "--vm", "none", "--cell", "machine=*q35*"]
    command = [sys.executable, "-m", "qmptests.cli.main", "matrix", "--quiet", *options]
    command += ["--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder
