"""The real builds that matrices of the tests are made of; nothing is launched."""

import pytest

from qmptests import builds
from qmptests.builds import Build


@pytest.fixture(scope="session")
def real_builds() -> list[Build]:
    """QEMU 7.2, twice 10.0, and 11.1."""
    suites = ("bookworm", "bookworm-backports", "trixie", "trixie-backports")
    return [builds.resolve(f"debian:{suite}") for suite in suites]
