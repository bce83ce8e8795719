"""What tests of several rooms share."""

import os
import shutil
from pathlib import Path

import pytest

from qmptests import builds, packages
from qmptests.dirs import cache_dir

#: Names that stay when Debian goes on to the next point release.
NAMES = {"10.0": "debian:trixie", "11.1": "debian:trixie-backports"}
#: The suite whose linux-libc-dev knows all that we use.
HEADERS = "trixie-backports"


@pytest.fixture(scope="session")
def cache_of_named_builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache, in which two builds are called by our `NAMES`."""
    place, real = tmp_path_factory.mktemp("cache"), cache_dir()
    (place / "builds").mkdir()
    for part in ("packages", "builds/facts", "builds/seen", "builds/accelerators"):
        (real / part).mkdir(parents=True, exist_ok=True)
        (place / part).symlink_to(real / part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QMPTESTS_CACHE", str(place))
        for name, spec in NAMES.items():
            builds.add([spec], name)
    return place


@pytest.fixture
def named_builds(cache_of_named_builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test starts, and the test itself, finds two builds by our `NAMES`."""
    monkeypatch.setitem(os.environ, "QMPTESTS_CACHE", str(cache_of_named_builds))


@pytest.fixture(scope="session")
def header_tree() -> Path:
    """Debian's newest kernel headers, unpacked in the cache."""
    if shutil.which("cc") is None:
        why = "no C compiler (cc), so the kernel's headers can't be asked: install gcc, libc6-dev"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return packages.fetch(HEADERS, ["linux-libc-dev"], progress=print).root
