"""A wait ends when QEMU writes the event, or says what it waited for."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from qmptests import eventloop
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.trace.follow import TraceFollower, TraceTimeout
from qmptests.trace.log import NotConfirmed, TraceLog
from qmptests.trace.parser import Event

STATE = "migrate_set_state"


def follower(path: Path) -> TraceFollower:
    return TraceFollower(TraceLog(path, enabled=[STATE, "ram_load_loop"]))


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, not paths


def test_what_already_happened_counts(tmp_path: Path) -> None:
    append(tmp_path / "log", f"{STATE} new state setup\n{STATE} new state active\n")
    one = follower(tmp_path / "log")
    for _ in range(2):
        event = eventloop.run(one.wait_for(STATE, timeout=5, new_state="active"))
        assert event.line == 2


def test_it_wakes_up_for_a_file_that_appears_and_a_line_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def scene() -> Event:
        one = follower(path)
        wait = asyncio.create_task(one.wait_for(STATE, timeout=20, new_state="active"))
        for piece in ("", "qemu: noise\n", f"{STATE} new state set", "up\n", STATE, " new state "):
            append(path, piece)
            await asyncio.sleep(0.005)  # lets the wait see each piece by itself
            assert not wait.done()
        append(path, "active\n")
        return await wait

    before = descriptors()
    assert eventloop.run(scene()) == Event(STATE, "new state active", None, None, 3)
    assert descriptors() == before


def test_after_starts_later(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, f"{STATE} new state active\n" * 2)

    async def scene() -> list[int]:
        one = follower(path)
        first = await one.wait_for(STATE, timeout=5)
        second = await one.wait_for(STATE, timeout=5, after=first)
        third = asyncio.create_task(one.wait_for(STATE, timeout=20, after=second))
        await asyncio.sleep(0.005)
        append(path, f"{STATE} new state failed\n")
        return [first.line, second.line, (await third).line]

    assert eventloop.run(scene()) == [1, 2, 3]


@pytest.mark.parametrize("wanted", [{}, {"new_state": "active"}])
def test_it_counts_past_and_coming_events(tmp_path: Path, wanted: dict[str, Any]) -> None:
    path = tmp_path / "log"
    append(path, f"{STATE} new state active\n" * 3)

    async def scene() -> list[int]:
        one = follower(path)
        lines = [(await one.wait_for_count(STATE, 2, timeout=5, **wanted)).line]
        waits = [
            asyncio.create_task(one.wait_for_count(STATE, count, timeout=20, **wanted))
            for count in (4, 6)
        ]
        for _ in range(3):
            append(path, f"{STATE} new state active\n")
            await asyncio.sleep(0.002)
        return lines + [(await wait).line for wait in waits]

    assert eventloop.run(scene()) == [2, 4, 6]


def test_a_deadline_says_what_it_waited_for_and_shows_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, "1@2.000000:migrate_set_state new state setup\nqemu: oops\n")
    before = descriptors()
    with pytest.raises(TraceTimeout) as caught:
        eventloop.run(
            follower(path).wait_for(STATE, timeout=0.05, what="the switchover", new_state="device")
        )
    assert str(caught.value) == (
        "waited 0.05 s for trace event migrate_set_state(new_state=device) in log, for the "
        'switchover; its last line is "qemu: oops"'
    )
    assert caught.value.__notes__ == [
        "  line 1: migrate_set_state new state setup",
        "  line 2: qemu: oops",
    ]
    assert caught.value.exit_code == 1
    assert descriptors() == before


def test_a_deadline_for_a_count_says_how_many_came(tmp_path: Path) -> None:
    append(tmp_path / "log", f"{STATE} new state active\n")
    with pytest.raises(TraceTimeout, match=r"3 times \(came 1 times\) in log"):
        eventloop.run(follower(tmp_path / "log").wait_for_count(STATE, 3, timeout=0.05))


def test_a_log_that_never_appears_is_a_deadline_too(tmp_path: Path) -> None:
    with pytest.raises(TraceTimeout, match="it is empty or not there"):
        eventloop.run(follower(tmp_path / "log").wait_for(STATE, timeout=0.05))


def test_an_event_that_can_never_come_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(NotConfirmed):
        eventloop.run(follower(tmp_path / "log").wait_for("vfio_save_setup", timeout=60))


def test_a_missing_folder_is_not_waited_for(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(EnvironmentFailure, match=r"can't watch .*No such file"):
        eventloop.run(follower(tmp_path / "none" / "log").wait_for(STATE, timeout=60))
    assert descriptors() == before


def test_a_log_that_shrinks_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, "a_b c\n" * 3)

    async def scene() -> None:
        wait = asyncio.create_task(follower(path).wait_for(STATE, timeout=20))
        await asyncio.sleep(0.005)
        path.write_text("a_b c\n")
        await wait

    with pytest.raises(InputError, match="shrank"):
        eventloop.run(scene())


def test_a_cancelled_wait_leaves_nothing_behind(tmp_path: Path) -> None:
    before = descriptors()

    async def scene() -> None:
        wait = asyncio.create_task(follower(tmp_path / "log").wait_for(STATE, timeout=60))
        await asyncio.sleep(0.005)
        wait.cancel()
        await asyncio.wait([wait])
        assert wait.cancelled()

    eventloop.run(scene())
    assert descriptors() == before


def test_a_flood_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, "ram_load_loop block addr 0x1000\n" * 150_000 + f"{STATE} new state active\n")

    async def scene() -> float:
        longest = 0.0
        wait = asyncio.create_task(follower(path).wait_for(STATE, timeout=60))
        while not wait.done():
            start = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - start)
        assert (await wait).line == 150_001
        return longest

    assert eventloop.run(scene()) < 0.1  # one chunk of 256 KiB takes about 10 ms
