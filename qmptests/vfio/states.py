"""The migration state machine of a VFIO device: how it gets from one state to another.

As `vfio_mig_get_next_state()` in Linux has it, with the arcs that linux/vfio.h describes at
`enum vfio_device_mig_state`. Pure.
"""

from qmptests.vfio.abi import MigrationFlag, State


class Forbidden(Exception):
    """There is no such way: EINVAL."""


#: What a device has to support so that it has the state.
NEEDS = {
    State.ERROR: MigrationFlag(0),
    State.STOP: MigrationFlag.STOP_COPY,
    State.RUNNING: MigrationFlag.STOP_COPY,
    State.STOP_COPY: MigrationFlag.STOP_COPY,
    State.RESUMING: MigrationFlag.STOP_COPY,
    State.RUNNING_P2P: MigrationFlag.STOP_COPY | MigrationFlag.P2P,
    State.PRE_COPY: MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY,
    State.PRE_COPY_P2P: MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY,
}

#: Where one goes from a state, unless `_EXCEPTIONS` knows better for what is wanted.
_TOWARDS = {
    State.STOP: State.RUNNING_P2P,
    State.RUNNING: State.RUNNING_P2P,
    State.RUNNING_P2P: State.STOP,
    State.PRE_COPY: State.RUNNING,
    State.PRE_COPY_P2P: State.RUNNING_P2P,
    State.STOP_COPY: State.STOP,
    State.RESUMING: State.STOP,
    State.ERROR: State.ERROR,
}
_EXCEPTIONS = {
    (State.STOP, State.STOP_COPY): State.STOP_COPY,
    (State.STOP, State.RESUMING): State.RESUMING,
    (State.RUNNING, State.PRE_COPY): State.PRE_COPY,
    (State.RUNNING_P2P, State.RUNNING): State.RUNNING,
    (State.RUNNING_P2P, State.PRE_COPY): State.RUNNING,
    (State.RUNNING_P2P, State.PRE_COPY_P2P): State.PRE_COPY_P2P,
    (State.PRE_COPY, State.PRE_COPY_P2P): State.PRE_COPY_P2P,
    (State.PRE_COPY, State.STOP_COPY): State.PRE_COPY_P2P,
    (State.PRE_COPY_P2P, State.PRE_COPY): State.PRE_COPY,
    (State.PRE_COPY_P2P, State.STOP_COPY): State.STOP_COPY,
    # The session of a stopped device can't go back to a running one's.
    (State.STOP_COPY, State.PRE_COPY): State.ERROR,
    (State.STOP_COPY, State.PRE_COPY_P2P): State.ERROR,
}


def supported(state: State, flags: MigrationFlag) -> bool:
    """Whether a device with these abilities has the state."""
    return NEEDS[state] in flags


def path(current: State, wanted: State, flags: MigrationFlag) -> tuple[State, ...]:
    """The states that are entered one after the other, `wanted` last. Raises Forbidden.

    None at all if the device is there already, even in ERROR: drivers ask for the next state only
    while the current one differs. States that the device does not support are passed over.
    """
    entered: list[State] = []
    while current is not wanted:
        if wanted is State.ERROR or not supported(wanted, flags):
            raise Forbidden(f"no device with {flags!r} can be asked for {wanted.name}")
        current = _EXCEPTIONS.get((current, wanted), _TOWARDS[current])
        if current is State.ERROR:
            raise Forbidden(f"there is no way from here to {wanted.name}")
        if supported(current, flags):
            entered.append(current)
    return tuple(entered)
