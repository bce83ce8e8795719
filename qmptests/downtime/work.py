"""What a side did while the guest stood still, as data: activities in lanes.

A side has one main lane, its migration thread or incoming coroutine, and a lane for each device
that saves or loads in a thread of its own (multifd).
"""

from bisect import bisect_right
from enum import StrEnum

import msgspec


class Step(StrEnum):
    """What a side was at, in this order."""

    #: Source: the VM is stopped, src-downtime-start to src-vm-stopped.
    STOP = "stop"
    #: Source: it waits for `migrate-continue`.
    PRE_SWITCHOVER = "pre-switchover"
    #: Source: what is dirty is asked for the last time (since 11.1; before that RAM's save does).
    SYNC = "sync"
    SAVE = "save"
    LOAD = "load"
    #: Destination: from the end of the stream until the vCPUs run.
    START = "start"
    #: Destination: it waits for `cont`, having been started with `-S`.
    PAUSED = "paused"


#: Owners that are neither a device nor a section of the stream. docs/explanation/downtime.md says
#: which events bracket each.
VCPUS = "vCPUs"
BLOCK = "block"
MAIN_LOOP = "main loop"
ANNOUNCE = "announce"
CONTINUE = "migrate-continue"
CONT = "cont"
#: What follows the last section of the stream, and the way there.
STREAM = "stream"
#: Of devices under multifd: made before the first save, joined after the last load.
THREADS = "threads"
RAM = "ram"


class Activity(msgspec.Struct, frozen=True, gc=False):
    """Somebody's work on one side, from `begin` to `end`: microseconds on the source's clock.

    `owner`: a device (`vf0`), a section (`ram`) or a part of QEMU (`vCPUs`). `section`: the key by
    which a save finds its load: type, idstr and instance.
    """

    begin: int
    end: int
    step: Step
    owner: str
    section: str = ""


class Work(msgspec.Struct, frozen=True):
    """One side's work.

    `lanes`: the threads of devices under multifd, by device, as the one activity each is. `calls`:
    by device, the calls that took its time, from the call log, and buffers being loaded. `config`:
    loads of configuration space by threads, which keep QEMU's big lock. `marks`: times of
    checkpoints, and of what else is needed, by name.
    """

    main: list[Activity]
    lanes: dict[str, Activity]
    calls: dict[str, list[Activity]]
    config: list[Activity]
    marks: dict[str, int]

    def at(self, lane: list[Activity], time: int) -> Activity | None:
        """The activity of a lane that is going on just before `time`, or the last that ended."""
        index = bisect_right(lane, time - 1, key=lambda activity: activity.begin)
        return lane[index - 1] if index else None
