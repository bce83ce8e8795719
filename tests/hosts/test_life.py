"""Who gives no sign of life is lost; nobody is asked before something is overdue."""

import asyncio
import os
import signal

import pytest

from qmptests import eventloop
from qmptests.errors import EnvironmentFailure
from qmptests.hosts import Guard, LocalHost, life, wait


class Helper:
    """One that answers, or doesn't."""

    def __init__(self, *, lives: bool) -> None:
        self.lives = lives
        self.asked = 0
        self.why: list[str] = []

    async def answer(self) -> None:
        self.asked += 1
        if not self.lives:
            await asyncio.Event().wait()

    def lose(self, why: str) -> None:
        self.why.append(why)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "SILENT_S", 0.3)
    monkeypatch.setattr(life, "AGAIN_S", 0.01)
    monkeypatch.setattr(life, "MOMENT_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_only_the_silent_one_is_lost() -> None:
    lively, silent = Helper(lives=True), Helper(lives=False)
    eventloop.run(life.ask([lively, silent]))
    assert (lively.why, silent.why) == ([], ["gave no sign of life for 0.3 s"])


@pytest.mark.usefixtures("impatient")
def test_nobody_is_asked_before_something_is_overdue() -> None:
    helper = Helper(lives=True)

    async def go() -> list[int]:
        guard = Guard(lambda: [helper])
        guard.expect(3600)
        guard.hurry(7200)  # later is no hurry
        await asyncio.sleep(0)
        counts = [helper.asked]
        guard.hurry(0)
        while helper.asked < 3:
            await asyncio.sleep(0.001)
        guard.expect(3600)  # the work goes on
        counts.append(helper.asked)
        await asyncio.sleep(0.05)
        counts.append(helper.asked)
        guard.close()
        return counts

    before, overdue, after = eventloop.run(go())
    assert before == 0
    assert after == overdue


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", ["at its start", "later"])
def test_a_launcher_that_is_stopped_can_start_nothing(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It is killed, and all that it owned: nobody waits for what it would have told."""
    started = host._fork_launcher

    def stopped() -> object:
        sock = started()
        assert host._popen is not None
        os.kill(host._popen.pid, signal.SIGSTOP)
        return sock

    async def go() -> None:
        if when == "at its start":
            monkeypatch.setattr(host, "_fork_launcher", stopped)
            await host.spawn("sleeper", ["sleep", "1000"])
        sleeper = await host.spawn("sleeper", ["sleep", "1000"])
        assert host._popen is not None
        os.kill(host._popen.pid, signal.SIGSTOP)
        try:
            await host.spawn("another", ["sleep", "1000"])
        finally:
            with pytest.raises(EnvironmentFailure, match="the launcher gave no sign of life"):
                await wait(sleeper.exited, what="the end", timeout=10)

    with pytest.raises(EnvironmentFailure, match=r"the launcher gave no sign of life for 0.3 s"):
        eventloop.run(go())


def test_a_launcher_that_lives_says_so(host: LocalHost) -> None:
    async def go() -> None:
        await host.start()
        await asyncio.gather(*(host.answer() for _ in range(100)))

    eventloop.run(go())
    assert host.dead is None


@pytest.mark.usefixtures("impatient")
def test_a_stopped_launcher_is_not_waited_for_at_the_end(host: LocalHost) -> None:
    """The fixture closes it, and looks for what is left."""
    eventloop.run(host.spawn("sleeper", ["sleep", "1000"]))
    assert host._popen is not None
    os.kill(host._popen.pid, signal.SIGSTOP)
