"""The one event loop: a background thread per process owns the only asyncio loop.

Everything that waits (monitors, consoles, process exits, trace tails) lives on it. The public
face of the library is synchronous: `run` hands one coroutine to the loop and blocks until it is
done. A Ctrl-C in the caller cancels that coroutine and waits until it has cleaned up.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner_pid = 0


def get() -> asyncio.AbstractEventLoop:
    """The loop, started on first use; a forked child starts one of its own."""
    global _loop, _owner_pid  # noqa: PLW0603 - one loop per process is the point
    with _lock:
        if _loop is None or _owner_pid != os.getpid():
            _owner_pid = os.getpid()
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="qmptests-loop", daemon=True).start()
        return _loop


def run(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the loop and return its result, from any thread but the loop's own.

    An exception raised in the waiting thread (KeyboardInterrupt above all) cancels the coroutine,
    waits until its `finally` blocks have run, and goes on. A second Ctrl-C meanwhile is not lost:
    it is the same one, and the teardown it would cut short has deadlines of its own.
    """
    loop = get()
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = loop.create_task(coro)
        tasks.append(task)
        task.add_done_callback(finish)

    def finish(task: "asyncio.Task[T]") -> None:
        if task.cancelled():
            result.cancel()
        elif (error := task.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(task.result())

    loop.call_soon_threadsafe(start)
    try:
        return result.result()
    except BaseException:
        if not result.done():
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108 - not there yet
            while not result.done():
                with contextlib.suppress(BaseException):
                    concurrent.futures.wait([result])
        raise
