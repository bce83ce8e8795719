"""The migration state machine is the kernel's, arc by arc."""

from itertools import product

import pytest

from qmptests.vfio import states
from qmptests.vfio.abi import MigrationFlag, State
from qmptests.vfio.words import state_of, state_word
from tests.vfio import arcs


def flags_of(p2p: bool, precopy: bool) -> MigrationFlag:
    flags = MigrationFlag.STOP_COPY
    if p2p:
        flags |= MigrationFlag.P2P
    return flags | MigrationFlag.PRE_COPY if precopy else flags


@pytest.mark.parametrize(
    ("current", "wanted", "p2p", "precopy"),
    [
        (current, wanted, *abilities)
        for current, wanted in product(arcs.STATES, repeat=2)
        for abilities in arcs.ABILITIES
        if arcs.exists(current, *abilities)
    ],
)
def test_a_path_is_the_one_that_the_kernels_header_describes(
    current: str, wanted: str, p2p: bool, precopy: bool
) -> None:
    expected = arcs.path(current, wanted, p2p, precopy)
    if expected is None:
        with pytest.raises(states.Forbidden):
            states.path(state_of(current), state_of(wanted), flags_of(p2p, precopy))
    else:
        found = states.path(state_of(current), state_of(wanted), flags_of(p2p, precopy))
        assert tuple(map(state_word, found)) == expected


def test_the_words_are_all_states() -> None:
    assert tuple(map(state_word, State)) == arcs.STATES


@pytest.mark.parametrize(
    ("current", "wanted", "entered"),
    [
        # What vfio_mig_get_next_state() says of itself: the longest combinations.
        ("running", "stop-copy", "running-p2p stop stop-copy"),
        ("stop-copy", "running", "stop running-p2p running"),
        ("pre-copy", "stop-copy", "pre-copy-p2p stop-copy"),
        ("pre-copy", "resuming", "running running-p2p stop resuming"),
        ("resuming", "pre-copy", "stop running-p2p running pre-copy"),
        ("running", "pre-copy-p2p", "running-p2p pre-copy-p2p"),
        ("running-p2p", "pre-copy", "running pre-copy"),
        ("stop-copy", "resuming", "stop resuming"),
    ],
)
def test_known_paths(current: str, wanted: str, entered: str) -> None:
    found = states.path(state_of(current), state_of(wanted), flags_of(True, True))
    assert " ".join(map(state_word, found)) == entered


def test_a_device_without_migration_can_be_asked_for_nothing() -> None:
    for state in State:
        if state is not State.RUNNING:
            with pytest.raises(states.Forbidden):
                states.path(State.RUNNING, state, MigrationFlag(0))
