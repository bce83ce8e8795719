"""A host of one test's own, of which nothing may be left."""

from collections.abc import Iterator

import pytest

from qmptests import eventloop
from qmptests.hosts import LocalHost
from qmptests.hosts.strays import kill_strays


@pytest.fixture
def host() -> Iterator[LocalHost]:
    async def make() -> LocalHost:
        return LocalHost()

    host = eventloop.run(make())
    yield host
    host.close()
    assert kill_strays(host.marker) == []
    assert not host.scratch.exists()
