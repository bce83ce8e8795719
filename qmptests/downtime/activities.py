"""What each side did while the guest stood still, from the evidence.

Nothing is judged here: see `critical`. docs/explanation/downtime.md says which events bracket what.
"""

from collections.abc import Iterable, Iterator

import msgspec

from qmptests.downtime.moments import Moment, Witness
from qmptests.downtime.sources import ALWAYS, SOURCE, Evidence
from qmptests.downtime.work import (
    ANNOUNCE,
    BLOCK,
    CONT,
    CONTINUE,
    MAIN_LOOP,
    RAM,
    STREAM,
    THREADS,
    VCPUS,
    Activity,
    Step,
    Work,
)

TRACED = (
    "vmstate_downtime_checkpoint",
    "vmstate_downtime_save",
    "vmstate_downtime_load",
    "migrate_set_state",
    "migration_block_activation",
    "savevm_send_switchover_start",
    "vfio_migration_set_state",
    "vfio_migration_set_device_state",
    "vfio_vmstate_change",
    "vfio_vmstate_change_prepare",
    "vfio_save_complete_precopy_thread_start",
    "vfio_save_complete_precopy_thread_end",
    "vfio_load_bufs_thread_start",
    "vfio_load_bufs_thread_end",
    "vfio_load_device_config_state_start",
    "vfio_load_device_config_state_end",
    "vfio_load_state_device_buffer_load_start",
    "vfio_load_state_device_buffer_load_end",
)


def of(evidence: Evidence, role: str, offset_us: int = 0) -> Work:
    """The work of one side; `offset_us` is taken from its times."""
    since, until = evidence.span if role == SOURCE else ALWAYS

    def moments(witness: Witness, names: Iterable[str]) -> Iterator[Moment]:
        for moment in evidence.moments(role, witness, tuple(names)):
            if since <= moment.at_us < until:
                yield moment

    traced = list(moments(Witness.TRACE, TRACED))
    marks = _marks(traced, moments(Witness.QMP, ("STOP", "RESUME")))
    addresses = evidence.addresses
    work = Work([], {}, {}, [], marks)
    handlers = _stopping if role == SOURCE else _starting
    work.main.extend(handlers(traced, marks))
    save = "vmstate_downtime_save" if role == SOURCE else "vmstate_downtime_load"
    step = Step.SAVE if role == SOURCE else Step.LOAD
    work.main.extend(_section(moment, step, addresses) for moment in traced if moment.name == save)
    _threads(traced, step, work)
    if work.lanes or step is Step.LOAD:
        work.main.extend(_around_sections(work, step, marks))
    for call in moments(Witness.CALLS, ("read", "write", "dma-report")):
        if call.us is not None:
            one = Activity(call.at_us, call.at_us + call.us, step, call.device, call.name)
            work.calls.setdefault(call.device, []).append(one)
    for calls in work.calls.values():
        calls.sort(key=lambda activity: activity.begin)
    if role == SOURCE:
        work.main.extend(_final_sync(work, marks))
    return _shifted(work, offset_us)


def _marks(traced: Iterable[Moment], qmp: Iterable[Moment]) -> dict[str, int]:
    """The first of each checkpoint and state, and of STOP and RESUME."""
    marks: dict[str, int] = {}
    for moment in traced:
        if moment.name == "vmstate_downtime_checkpoint":
            marks.setdefault(moment.text.strip(), moment.at_us)
        elif moment.name == "migrate_set_state":
            marks.setdefault(f"state {moment.args.get('new_state', '')}", moment.at_us)
        elif moment.name == "migration_block_activation":
            marks.setdefault(moment.text.strip(), moment.at_us)
        elif moment.name == "savevm_send_switchover_start":
            marks.setdefault(moment.name, moment.at_us)
    for moment in qmp:
        marks.setdefault(moment.name, moment.at_us)
    return marks


def _handlers(traced: Iterable[Moment], step: Step, begin: int, end: int) -> Iterator[Activity]:
    """What devices do when the VM stops or starts: each from its change of state to its report."""
    since: dict[str, int] = {}
    for moment in traced:
        if not begin <= moment.at_us <= end:
            continue
        if moment.name == "vfio_migration_set_state":
            since.setdefault(moment.device, moment.at_us)
        elif moment.name.startswith("vfio_vmstate_change"):
            at = since.pop(moment.device, moment.at_us)
            yield Activity(at, moment.at_us, step, moment.device)


def _stopping(traced: list[Moment], marks: dict[str, int]) -> Iterator[Activity]:
    begin, end = marks.get("src-downtime-start"), marks.get("src-vm-stopped")
    if begin is None or end is None:
        return
    devices = list(_handlers(traced, Step.STOP, begin, end))
    stopped = marks.get("STOP", end)
    if not begin <= stopped <= end:
        stopped = end
    yield Activity(begin, devices[0].begin if devices else stopped, Step.STOP, VCPUS)
    yield from devices
    yield Activity(max(stopped, devices[-1].end) if devices else stopped, end, Step.STOP, BLOCK)
    held, went = marks.get("state pre-switchover"), marks.get("state device")
    if held is not None and went is not None and held < went:
        yield Activity(max(held, end), went, Step.PRE_SWITCHOVER, CONTINUE)


def _final_sync(work: Work, marks: dict[str, int]) -> Iterator[Activity]:
    """From the stopped VM to the switchover's announcement: 11.1 looks for dirty pages there.

    RAM's part of it, but for the calls of the devices that report them; then block devices are
    inactivated, which is told apart only if that was traced.
    """
    begin = max(marks.get("src-vm-stopped", 0), marks.get("state device", 0))
    end = marks.get("savevm_send_switchover_start")
    if not begin or end is None or end <= begin:
        return
    synced = min(max(begin, marks.get("inactive", end)), end)
    calls = sorted(
        (c for device in work.calls.values() for c in device if c.section == "dma-report"),
        key=lambda call: call.begin,
    )
    at = begin
    for call in calls:
        first, last = max(call.begin, at), min(call.end, synced)
        if first < last:
            yield Activity(at, first, Step.SYNC, RAM)
            yield Activity(first, last, Step.SYNC, call.owner)
            at = last
    yield Activity(at, synced, Step.SYNC, RAM)
    yield Activity(synced, end, Step.SYNC, BLOCK)


def _starting(traced: list[Moment], marks: dict[str, int]) -> Iterator[Activity]:
    names = ("dst-precopy-loadvm-completed", "dst-precopy-bh-enter", "dst-precopy-bh-announced")
    times = [marks.get(name) for name in names]
    end = marks.get("dst-precopy-bh-vm-started")
    for owner, first, last in zip((MAIN_LOOP, ANNOUNCE), times, times[1:], strict=False):
        if first is not None and last is not None:
            yield Activity(first, last, Step.START, owner)
    begin = times[-1]
    if begin is None or end is None:
        return
    resumed = marks.get("RESUME", end)
    if resumed > end:  # started with -S: nothing runs until `cont`
        yield Activity(begin, end, Step.START, BLOCK)
        yield Activity(end, resumed, Step.PAUSED, CONT)
        return
    resumed = max(begin, resumed)
    yield Activity(begin, resumed, Step.START, BLOCK)
    devices = list(_handlers(traced, Step.START, resumed, end))
    yield Activity(resumed, devices[0].begin if devices else end, Step.START, VCPUS)
    yield from devices
    if devices:
        yield Activity(devices[-1].end, end, Step.START, VCPUS)


def _section(moment: Moment, step: Step, addresses: dict[str, str]) -> Activity:
    """QEMU logs a section's time when it has ended."""
    args = moment.args
    name = str(args.get("idstr", "?"))
    took = max(0, moment.number("downtime"))
    key = f"{args.get('type')} {name} {args.get('instance_id')}"
    return Activity(moment.at_us - took, moment.at_us, step, addresses.get(name, name), key)


def _threads(traced: Iterable[Moment], step: Step, work: Work) -> None:
    begun: dict[tuple[str, str], int] = {}
    for moment in traced:
        name, _, edge = moment.name.rpartition("_")
        if edge == "start" and name.startswith("vfio_"):
            begun[name, moment.device] = moment.at_us
        elif edge == "end" and (name, moment.device) in begun:
            at = begun.pop((name, moment.device))
            device = moment.device
            if name in ("vfio_save_complete_precopy_thread", "vfio_load_bufs_thread"):
                work.lanes[device] = Activity(at, moment.at_us, step, device)
            elif name == "vfio_load_device_config_state":
                work.config.append(Activity(at, moment.at_us, step, device, "config"))
            else:
                one = Activity(at, moment.at_us, step, device, "write")
                work.calls.setdefault(device, []).append(one)


def _around_sections(work: Work, step: Step, marks: dict[str, int]) -> list[Activity]:
    """Threads are made once the switchover is announced, and joined when all has been loaded.

    Without threads there is nothing between the last load and its end but the stream's end.
    """
    works = [*(a for a in work.main if a.step is step), *work.lanes.values()]
    if step is Step.SAVE:
        begin = marks.get("savevm_send_switchover_start")
        end = min((a.begin for a in works), default=None)
    else:
        begin = max((a.end for a in works), default=None)
        end = marks.get("dst-precopy-loadvm-completed")
    if begin is None or end is None or begin >= end:
        return []
    return [Activity(begin, end, step, THREADS if work.lanes else STREAM)]


def _shifted(work: Work, offset_us: int) -> Work:
    """In order of time, on the source's clock; what took no time is left out."""

    def moved(activity: Activity) -> Activity:
        if not offset_us:
            return activity
        begin, end = activity.begin - offset_us, activity.end - offset_us
        return msgspec.structs.replace(activity, begin=begin, end=end)

    def ordered(activities: Iterable[Activity]) -> list[Activity]:
        """No two at once: the later one begins where the earlier one ended."""
        found: list[Activity] = []
        for activity in sorted(map(moved, activities), key=lambda a: (a.begin, a.end)):
            begin = max(activity.begin, found[-1].end) if found else activity.begin
            if begin < activity.end:
                found.append(msgspec.structs.replace(activity, begin=begin))
        return found

    return Work(
        ordered(work.main),
        {device: moved(lane) for device, lane in work.lanes.items()},
        {device: ordered(calls) for device, calls in work.calls.items()},
        ordered(work.config),
        {name: at - offset_us for name, at in work.marks.items()},
    )
