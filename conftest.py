"""What holds for all tests of this checkout."""

import os

import pytest
from hypothesis import settings

from qmptests.dirs import cache_dir

# An example's time says nothing on a machine that runs virtual machines beside it. In CI every run
# tries the same examples: a red change is red because of the change.
settings.register_profile("qmptests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("qmptests")


# Tests that change HOME or the working directory use the same cache all the same.
os.environ.setdefault("QMPTESTS_CACHE", str(cache_dir()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a session in which nothing ran, because everything was skipped, into a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    if not any(reporter.stats.get(verdict) for verdict in ("passed", "xfailed", "xpassed")):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
