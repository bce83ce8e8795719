"""Starts and ends processes without pause, until somebody kills it; prints its marker first."""

import asyncio

from qmptests import eventloop
from qmptests.hosts import local


async def main() -> None:
    host = local()
    await host.start()
    assert host._popen is not None
    print(host.marker, host._popen.pid, host.scratch, flush=True)
    while True:
        script = "setsid sleep 1000 & exec sleep 1000"
        started = await asyncio.gather(
            *(host.spawn(f"n{i}", ["sh", "-c", script]) for i in range(3))
        )
        await asyncio.gather(*(process.kill() for process in started))


eventloop.run(main())
