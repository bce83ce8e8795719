"""A program that becomes another user's may not be killed: it is named, and all else goes."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a setuid program")

#: Run as root, which it stays until everything is imported.
SCRIPT = """
import asyncio, os, signal, sys
sys.path[:0] = {path!r}
from qmptests import eventloop
from qmptests.errors import QmptestsError
from qmptests.hosts import LocalHost
os.setresgid(*[{nobody}] * 3)
os.setresuid(*[{nobody}] * 3)
sys.executable = {python!r}

async def main():
    host = LocalHost()
    argv = [{become!r}, "--reuid=0", "--regid=0", "--clear-groups", "sleep", "1000"]
    spared = await host.spawn("source", argv)
    reads, writes = os.pipe()
    script = "setsid sleep 1000 & echo $!; wait"
    ordinary = await host.spawn("other", ["sh", "-c", script], fds={{1: writes}})
    grandchild = int(os.read(reads, 100))
    while os.stat(f"/proc/{{spared.pid}}/cmdline").st_uid:
        await asyncio.sleep(0.01)
    print(spared.pid, ordinary.pid, grandchild, host.scratch, flush=True)
    if {end!r} == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if {end!r} == "kill":
        try:
            await spared.kill()
        except QmptestsError as error:
            print(type(error).__name__, error, flush=True)
    return host

eventloop.run(main()).close()
"""


@pytest.fixture
def become() -> Iterator[str]:
    """A setuid `setpriv`, in a folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp())
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        pytest.skip(f"{folder} is on a file system without setuid programs")
    folder.chmod(0o755)
    program = folder / "setpriv"
    shutil.copy(shutil.which("setpriv") or "", program)
    program.chmod(0o4755)
    yield str(program)
    shutil.rmtree(folder)


@pytest.fixture
def python() -> str:
    """An interpreter that another user may run too: root's own may be out of reach."""
    for path in (sys.executable, "/usr/bin/python3"):
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        argv = [path, "-I", "-c", code]
        try:
            subprocess.run(argv, user=NOBODY, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("another user can run no Python 3.11 here")


@pytest.mark.parametrize("end", ["close", "die", "kill"])
def test_it_is_named_and_all_else_is_gone(become: str, python: str, end: str) -> None:
    code = SCRIPT.format(path=sys.path, nobody=NOBODY, python=python, become=become, end=end)
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as owner:
        out, said = owner.communicate(timeout=60)  # the end of file comes with the launcher's end
    told, *more = out.splitlines()
    spared, ordinary, grandchild, scratch = told.split()
    try:
        line = f"sleep (pid {spared}) still runs: it is user 0's, and may not be killed"
        assert said == f"qmptests: error: {line}\n"
        assert more == ([f"EnvironmentFailure source: {line}"] if end == "kill" else [])
        assert owner.returncode == (-signal.SIGKILL if end == "die" else 0)
        assert not Path("/proc", ordinary).exists()
        assert not Path("/proc", grandchild).exists()
        assert not Path(scratch).exists()
        assert Path("/proc", spared).exists()
    finally:
        os.kill(int(spared), signal.SIGKILL)
