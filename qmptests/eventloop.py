"""The one event loop: a background thread per process owns the only asyncio loop.

Everything that waits (monitors, consoles, process exits, trace tails) lives on it. The public
face of the library is synchronous: `run` hands one coroutine to the loop and blocks until it is
done. A Ctrl-C in the caller cancels that coroutine and waits until it has cleaned up.

The loop's time, by which every deadline goes, stands still while this process is stopped (Ctrl-Z):
its QEMUs run on, and what they did meanwhile is heard before anybody says that it came too late.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import selectors
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds for which the loop sleeps at most while there is a deadline.
BEAT_S = 1.0
#: Seconds by which it must oversleep to have been stopped.
STOPPED_S = 1.0

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner_pid = 0


def get() -> asyncio.AbstractEventLoop:
    """The loop, started on first use; a forked child starts one of its own."""
    global _loop, _owner_pid
    with _lock:
        if _loop is None or _owner_pid != os.getpid():
            made: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
            threading.Thread(target=_serve, args=[made], name="qmptests-loop", daemon=True).start()
            _loop, _owner_pid = made.result(), os.getpid()
        return _loop


class _Selector(selectors.EpollSelector):
    """Notices that the process was stopped: the loop, which sleeps in here, overslept."""

    def __init__(self) -> None:
        super().__init__()
        #: Seconds for which the process was stopped, in all.
        self.stopped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the base class; time for which the process was stopped does not count."""
        if timeout is None:
            return super().select(None)
        while True:
            beat = min(timeout, BEAT_S)
            began = time.monotonic()
            ready = super().select(beat)
            slept = time.monotonic() - began
            if slept > max(beat, 0) + STOPPED_S:
                self.stopped_s += slept
            else:
                timeout -= beat
            if ready or timeout <= 0:
                return ready


class _Loop(asyncio.SelectorEventLoop):
    """The loop with the clock that is described above."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds on the monotonic clock, without those for which the process was stopped."""
        return time.monotonic() - self._clock.stopped_s


def _serve(made: "concurrent.futures.Future[asyncio.AbstractEventLoop]") -> None:
    """Make the loop here: a Ctrl-C interrupts only the main thread, and half a loop complains."""
    loop = _Loop()
    made.set_result(loop)
    loop.run_forever()


def run(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the loop and return its result, from any thread but the loop's own.

    An exception raised in the waiting thread (KeyboardInterrupt above all) cancels the coroutine,
    waits until its `finally` blocks have run, and goes on. A second Ctrl-C meanwhile is not lost:
    it is the same one, and the teardown it would cut short has deadlines of its own.
    """
    loop: asyncio.AbstractEventLoop | None = None
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = asyncio.get_running_loop().create_task(coro)
        tasks.append(task)
        task.add_done_callback(finish)

    def finish(task: "asyncio.Task[T]") -> None:
        if task.cancelled():
            cancelled()
        elif (error := task.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(task.result())

    def cancelled() -> None:
        result.cancel()
        result.set_running_or_notify_cancel()  # cancel() alone does not wake who waits

    def cancel() -> None:
        if tasks:
            tasks[0].cancel()
        else:  # the interrupt came before `start` was handed over
            coro.close()
            cancelled()

    asked = False
    try:
        loop = get()
        loop.call_soon_threadsafe(start)
        return result.result()
    except BaseException:
        if loop is None:
            coro.close()
            raise
        while not result.done():
            with contextlib.suppress(BaseException):
                if not asked:
                    loop.call_soon_threadsafe(cancel)
                    asked = True
                concurrent.futures.wait([result])
        raise
