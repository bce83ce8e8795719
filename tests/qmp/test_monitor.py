"""The monitor against faults that a real QEMU can't be made to show: a scripted peer answers."""

import asyncio
import functools
import json
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from qmptests import eventloop
from qmptests.hosts import WaitTimeout
from qmptests.qmp import CommandError, Monitor, MonitorLost, Transcript

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 11}, "package": ""},'
    b' "capabilities": ["oob"]}}\r\n'
)
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def converse(
    peer: Peer,
    talk: Callable[[Monitor], Awaitable[Any]],
    transcript: Path | None = None,
    connect_s: float = 5.0,
) -> Any:
    """Run `talk` on a monitor whose other end is `peer`."""

    async def go() -> Any:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        peer_task = asyncio.ensure_future(peer(reader, writer))
        monitor = Monitor("source", Transcript(transcript) if transcript else None)
        try:
            await monitor.connect(ours, timeout=connect_s)
            return await talk(monitor)
        finally:
            peer_task.cancel()
            writer.close()
            await monitor.close()
            ours.close()

    return eventloop.run(go())


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await answer(reader, writer, {})


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, value: object) -> None:
    command = json.loads(await reader.readuntil(b"}"))  # qmp_capabilities has no nested object
    writer.write(json.dumps({"return": value, "id": command.get("id")}).encode() + b"\r\n")


async def read_command(reader: asyncio.StreamReader) -> dict[str, Any]:
    data = b""
    while True:
        data += await reader.readuntil(b"}")
        try:
            command = json.loads(data)
        except ValueError:
            continue
        assert isinstance(command, dict)
        return command


async def greet_any(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await read_command(reader)
    writer.write(b'{"return": {}}\r\n')


async def nothing(monitor: Monitor) -> None:
    """Just connect."""


def test_no_greeting_is_a_deadline_that_says_so() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    with pytest.raises(WaitTimeout, match="waiting for the QMP greeting from source"):
        converse(silent, nothing, connect_s=0.1)


@pytest.mark.parametrize(
    "garbage", [b"hello\n", b"[]\n", b"{}\n", b'{"QMP": 1}\n', b"\xff\xfe\n", b""]
)
def test_a_wrong_greeting_is_one_clear_line(garbage: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)
        writer.close()

    with pytest.raises(MonitorLost, match=r"^source: no QMP greeting: [^\n]+$"):
        converse(babble, nothing)


def test_a_command_at_the_moment_of_the_loss_is_one_clear_line() -> None:
    """Whichever step of the connection's end it meets."""

    async def hang_up(
        now: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await greet_any(reader, writer)
        await now.wait()
        writer.close()

    async def late(now: asyncio.Event, steps: int, monitor: Monitor) -> None:
        now.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        await monitor.execute("query-status", timeout=5)

    for steps in range(20):
        now = asyncio.Event()
        with pytest.raises(MonitorLost, match=r"^source: the QMP connection [^\n]+$"):
            converse(functools.partial(hang_up, now), functools.partial(late, now, steps))


@pytest.mark.parametrize("garbage", [b"}{\n", b"not json\n", b'{"error": {}}\n'])
def test_garbage_later_ends_the_command_that_waits(garbage: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        await read_command(reader)
        writer.write(garbage)

    with pytest.raises(MonitorLost, match=r"^source: the QMP connection was lost: "):
        converse(babble, lambda m: m.execute("query-status", timeout=5))


def test_garbage_later_ends_a_wait_for_an_event_too() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        writer.write(b"garbage\n")

    with pytest.raises(MonitorLost, match="the QMP connection was lost"):
        converse(babble, lambda m: m.expect("STOP", what="the STOP event", timeout=5))


def test_a_command_that_is_never_answered_has_a_deadline() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        await asyncio.Event().wait()

    with pytest.raises(WaitTimeout, match="waiting for the answer to query-status from source"):
        converse(deaf, lambda m: m.execute("query-status", timeout=0.1))


def test_an_error_answer_keeps_qemus_own_words() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        command = await read_command(reader)
        error = {"class": "GenericError", "desc": "Invalid parameter 'nonsense'"}
        writer.write(json.dumps({"error": error, "id": command["id"]}).encode() + b"\n")

    with pytest.raises(CommandError) as caught:
        converse(refuse, lambda m: m.execute("migrate-set-parameters", {"nonsense": 1}))
    assert str(caught.value) == "source: migrate-set-parameters: Invalid parameter 'nonsense'"
    assert caught.value.error_class == "GenericError"


def _has_status(status: str, data: dict[str, Any]) -> bool:
    return bool(data["status"] == status)


def test_an_event_that_came_before_the_wait_counts_from_its_mark() -> None:
    async def announce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        for status in ("setup", "active"):
            event = {"event": "MIGRATION", "data": {"status": status}}
            writer.write(json.dumps(event).encode() + b"\n")
        await asyncio.Event().wait()

    async def talk(monitor: Monitor) -> list[str]:
        found = []
        for status in ("active", "setup", "active"):
            matches = functools.partial(_has_status, status)
            event = await monitor.expect("MIGRATION", matches, what=status, timeout=5)
            found.append(event.data["status"])
        with pytest.raises(WaitTimeout):
            await monitor.expect(
                "MIGRATION", what="a new one", timeout=0.05, since=monitor.events.mark
            )
        return found

    assert converse(announce, talk) == ["active", "setup", "active"]


def test_a_flood_is_one_line_of_the_transcript_and_one_entry_in_memory(tmp_path: Path) -> None:
    flood = 20_000

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        for number in range(flood):
            event = {"event": "MIGRATION_PASS", "data": {"pass": number}}
            writer.write(json.dumps(event).encode() + b"\n")
        writer.write(b'{"event": "STOP"}\n')
        await asyncio.Event().wait()

    async def talk(monitor: Monitor) -> tuple[int, list[tuple[str, int]]]:
        await monitor.expect("STOP", what="STOP", timeout=30)
        return monitor.events.counts["MIGRATION_PASS"], [
            (e.name, e.count) for e in monitor.events if e.count > 1 or e.name == "STOP"
        ]

    path = tmp_path / "source.qmp.jsonl"
    count, entries = converse(pour, talk, path)
    assert count == flood
    assert entries == [("MIGRATION_PASS", flood - 16), ("STOP", 1)]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    runs = [line for line in lines if "count" in line]
    assert len(lines) < 40
    assert [run["count"] for run in runs] == [flood - 17]
    assert runs[0]["received"]["data"]["pass"] == flood - 1
    assert runs[0]["time"] <= runs[0]["last"]


def test_the_transcript_has_both_directions_in_order(tmp_path: Path) -> None:
    path = tmp_path / "source.qmp.jsonl"

    async def helpful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        command = await read_command(reader)
        writer.write(json.dumps({"return": {"a": 1}, "id": command["id"]}).encode() + b"\n")
        await asyncio.Event().wait()

    assert converse(helpful, lambda m: m.execute("query-status"), path) == {"a": 1}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [("sent" in x, "received" in x) for x in lines] == [
        (False, True),
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]
    assert lines[3]["sent"]["execute"] == "query-status"
    assert lines == sorted(lines, key=lambda line: line["time"])


def test_a_full_disk_stops_the_transcript_but_not_the_conversation() -> None:
    async def helpful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet_any(reader, writer)
        command = await read_command(reader)
        writer.write(json.dumps({"return": 7, "id": command["id"]}).encode() + b"\n")
        await asyncio.Event().wait()

    async def talk(monitor: Monitor) -> Any:
        value = await monitor.execute("query-status")
        return value, monitor.transcript_problem

    value, problem = converse(helpful, talk, Path("/dev/full"))
    assert value == 7
    assert re.fullmatch(r"lost \d+ lines: No space left on device", problem)
