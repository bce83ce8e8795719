"""A place for what one run of QEMU needs and nobody keeps."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from qmptests.errors import EnvironmentFailure
from qmptests.hosts import local


@contextlib.asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A temporary directory, in the launcher's: it goes even if this process is killed.

    Raises EnvironmentFailure where none can be made or written.
    """
    await local().start()
    folder = local().scratch / os.urandom(6).hex()
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise EnvironmentFailure(
            f"can't write in {tempfile.gettempdir()} ({error.strerror}): free some space there, or "
            "set TMPDIR to another directory"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
