"""A temporary directory for what nobody keeps, in the launcher's: it goes even if we are killed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from qmptests import eventloop
from qmptests.errors import EnvironmentFailure
from qmptests.hosts.local import local


@contextlib.asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """One for what one run of QEMU needs; raises EnvironmentFailure where it can't be written."""
    with _explained():
        folder = await _make()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def blocking_scratch() -> Iterator[Path]:
    """One for those who are not on the event loop; raises EnvironmentFailure as above, at first."""
    with _explained():
        folder = eventloop.run(_make())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _make() -> Path:
    host = local()
    await host.start()
    folder = host.scratch / os.urandom(6).hex()
    folder.mkdir()
    return folder


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFailure(
            f"can't write in {tempfile.gettempdir()} ({error.strerror}): free some space there, or "
            "set TMPDIR to another directory"
        ) from error
