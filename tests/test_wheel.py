"""What is installed is what is in the checkout: the suites run from a wheel, anywhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, unpacked as pip would do it."""
    place = tmp_path_factory.mktemp("wheel")
    sources = place / "sources"
    sources.mkdir()  # the build writes beside what it builds from
    for name in ("pyproject.toml", "README.md", "LICENSE", "qmptests", "fixtures", "vms"):
        subprocess.run(["cp", "-a", str(CHECKOUT / name), str(sources)], check=True)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(place)!r})"
    subprocess.run(
        [sys.executable, "-c", build], cwd=sources, check=True, stdout=subprocess.DEVNULL
    )
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site-packages")
    return place / "site-packages"


def test_a_wheel_has_every_file_of_the_package(installed: Path) -> None:
    wanted = {
        str(path.relative_to(CHECKOUT))
        for folder in ("qmptests", "qmptests/fixtures", "qmptests/vms")
        for path in (CHECKOUT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= {str(p.relative_to(installed)) for p in installed.rglob("*")}


def test_the_suites_run_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = [sys.executable, "-P", "-c", "import qmptests.suites as s; print(s.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert found.stdout.decode().startswith(str(installed)), "not the checkout's"
    result = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "--pyargs", "qmptests.suites.compat"),
            *("-p", "no:cacheprovider", "-k", "q35 and (migrates or ram)"),
            *("--qemu-build=debian:trixie", "--qemu-build=debian:trixie-backports"),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout
