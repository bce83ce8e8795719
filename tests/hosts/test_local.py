"""The launcher owns every process: they start, they are watched, and they are gone afterwards."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from qmptests import eventloop
from qmptests.errors import EnvironmentFailure
from qmptests.hosts import LocalHost, ProcessDied, WaitTimeout, wait


def test_exit_status_is_reported(host: LocalHost) -> None:
    async def go() -> tuple[int, str]:
        process = await host.spawn("seven", ["sh", "-c", "exit 7"])
        status = await wait(process.exited, what="the end", timeout=10)
        return status.returncode, str(status)

    assert eventloop.run(go()) == (7, "exited with status 7")


def test_death_by_signal_is_named(host: LocalHost) -> None:
    async def go() -> str:
        process = await host.spawn("suicide", ["sh", "-c", "kill -SEGV $$"])
        return str(await wait(process.exited, what="the end", timeout=10))

    assert eventloop.run(go()).startswith("was killed by SIGSEGV")


def test_exec_failure_is_one_clear_line(host: LocalHost) -> None:
    with pytest.raises(
        EnvironmentFailure, match=r"^cannot start ghost: /nonexistent/ghost: No such file"
    ):
        eventloop.run(host.spawn("ghost", ["/nonexistent/ghost"]))


def test_descriptors_arrive_at_the_wanted_numbers(host: LocalHost, tmp_path: Path) -> None:
    """Also when they cross: what we call A must be the child's B and the reverse."""

    async def go() -> str:
        reads, writes = zip(os.pipe(), os.pipe(), strict=True)
        table = {writes[1]: writes[0], writes[0]: writes[1]}
        script = f"echo first >&{writes[1]}; echo second >&{writes[0]}"
        process = await host.spawn("crossed", ["bash", "-c", script], fds=table)
        await wait(process.exited, what="the end", timeout=10)
        out = "".join(os.read(fd, 100).decode() for fd in reads)
        for fd in (*reads, *writes):
            os.close(fd)
        return out

    assert eventloop.run(go()) == "first\nsecond\n"


def test_children_inherit_nothing_else(host: LocalHost, tmp_path: Path) -> None:
    async def go() -> list[str]:
        output = tmp_path / "fds"
        process = await host.spawn("lister", ["ls", "/proc/self/fd"], output=output)
        await wait(process.exited, what="the end", timeout=10)
        return output.read_text().split()

    assert eventloop.run(go()) == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


def test_a_wait_notices_a_death_and_says_what_it_waited_for(
    host: LocalHost, tmp_path: Path
) -> None:
    async def go() -> None:
        process = await host.spawn(
            "source", ["sh", "-c", "echo 'bad option' >&2; exit 1"], output=tmp_path / "log"
        )
        await wait(asyncio.Event().wait(), what="the greeting", timeout=10, alive=[process])

    with pytest.raises(ProcessDied) as caught:
        eventloop.run(go())
    assert str(caught.value) == (
        "source exited with status 1 while waiting for the greeting: bad option"
    )


def test_a_wait_has_a_deadline(host: LocalHost) -> None:
    async def go() -> None:
        process = await host.spawn("sleeper", ["sleep", "60"])
        await wait(asyncio.Event().wait(), what="Godot", timeout=0.05, alive=[process])

    with pytest.raises(WaitTimeout, match=r"^timed out after 0.05 s waiting for Godot$"):
        eventloop.run(go())


def test_orphans_die_with_the_launcher(host: LocalHost, tmp_path: Path) -> None:
    """A grandchild in a session of its own, whose parent is gone, is still ours."""

    async def go() -> None:
        process = await host.spawn(
            "parent", ["sh", "-c", f"setsid sleep 1000 & echo $! > {tmp_path}/pid"]
        )
        await wait(process.exited, what="the end", timeout=10)

    eventloop.run(go())
    grandchild = int((tmp_path / "pid").read_text())
    os.kill(grandchild, 0)
    host.close()
    with pytest.raises(ProcessLookupError):
        os.kill(grandchild, 0)


def test_the_launchers_death_is_an_error_in_everything_that_it_owned(host: LocalHost) -> None:
    async def go() -> None:
        process = await host.spawn("sleeper", ["sleep", "1000"])
        assert host._popen is not None
        os.kill(host._popen.pid, signal.SIGKILL)
        try:
            await wait(process.exited, what="the end", timeout=10)
        finally:
            assert not Path(f"/proc/{process.pid}").exists() or _is_zombie(process.pid)

    with pytest.raises(EnvironmentFailure, match="the launcher died"):
        eventloop.run(go())
    with pytest.raises(EnvironmentFailure, match="the launcher died"):
        eventloop.run(host.spawn("another", ["true"]))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_the_owner_does_not_end_the_launcher_before_it(
    host: LocalHost, number: signal.Signals
) -> None:
    """Whoever ends a session sends these to all of it; what is started has them as usual."""

    async def go() -> int:
        await host.start()
        assert host._popen is not None
        os.kill(host._popen.pid, number)
        process = await host.spawn("suicide", ["sh", "-c", f"kill -{number.value} $$; exit 3"])
        return (await wait(process.exited, what="the end", timeout=30)).returncode

    assert eventloop.run(go()) == -number


def test_a_cancelled_spawn_leaves_no_process(host: LocalHost) -> None:
    async def go() -> None:
        await host.start()
        task = asyncio.ensure_future(host.spawn("sleeper", ["sleep", "1000"]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    eventloop.run(go())  # the fixture looks for strays


def test_a_long_tmpdir_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A UNIX socket's path has 107 bytes at the most; nested temporary directories are longer."""
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    async def make() -> LocalHost:
        return LocalHost()

    host = eventloop.run(make())
    assert len(os.fsencode(host.scratch / "12345678.sock")) <= 107
    assert os.access(host.scratch.parent, os.W_OK)
