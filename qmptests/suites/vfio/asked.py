"""What QEMU asked of emulated devices, out of the call log of one side."""

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qmptests.vfio import descriptors
from qmptests.vfio.calls_read import Call, CallLog

if TYPE_CHECKING:
    from qmptests.outcome import Outcome


def calls(outcome: "Outcome", side: str = "source") -> CallLog:
    """The call log of a side."""
    log = CallLog(outcome.folder / f"{side}.vfio.jsonl")
    assert not log.problems, log.problems
    return log


def order(found: Iterable[Call]) -> list[str]:
    """The calls' names in the order in which they came, each run of the same name as one."""
    return [name for name, _ in itertools.groupby(call.call for call in found)]


def states(outcome: "Outcome", side: str = "source", device: str = "vf0") -> list[str]:
    """The states that a device was put in, in order, as its own log has them."""
    asked = calls(outcome, side).calls("set-state", device)
    return [call.with_["state"] for call in asked if "errno" not in call.answer]


def traced_states(outcome: "Outcome", side: str = "source", device: str = "vf0") -> list[str]:
    """The same as QEMU traced it. One that the device is in already is no change there."""
    trace = (outcome.source if side == "source" else outcome.destination).trace
    events = trace.events("vfio_migration_set_device_state")
    mine = labels(device)
    return [word(str(event.args["state"])) for event in events if event.label in mine]


def labels(device: str) -> tuple[str, str]:
    """How QEMU calls a device in traces and errors: by its id, or by its descriptor up to 10.0."""
    return device, f"VFIO_FD{descriptors.device(int(device.removeprefix('vf')))}"


def word(state: str) -> str:
    """A state's name in traces, RUNNING_P2P, as QMP and the call log have it."""
    return state.lower().replace("_", "-")
