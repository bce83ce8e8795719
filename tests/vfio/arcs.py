"""The migration states of a VFIO device as the prose of linux/vfio.h has them, by itself.

Written from the text at `enum vfio_device_mig_state` (Linux 6.2 and later), for comparison: it
shares nothing with what it is compared to. States are words; a path is found by search, by the
rules that the text gives, and not looked up.
"""

from itertools import product

STATES = (
    "error",
    "stop",
    "running",
    "stop-copy",
    "resuming",
    "running-p2p",
    "pre-copy",
    "pre-copy-p2p",
)

#: "The driver implements the following behavior for the FSM arcs", and all of them are here.
ARCS = frozenset(
    {
        ("running-p2p", "stop"),
        ("stop-copy", "stop"),
        ("resuming", "stop"),
        ("pre-copy", "running"),
        ("running-p2p", "running"),
        ("pre-copy-p2p", "running-p2p"),
        ("running", "running-p2p"),
        ("stop", "running-p2p"),
        ("running", "pre-copy"),
        ("running-p2p", "pre-copy-p2p"),
        ("stop", "stop-copy"),
        ("pre-copy", "pre-copy-p2p"),
        ("pre-copy-p2p", "pre-copy"),
        ("pre-copy-p2p", "stop-copy"),
        ("stop", "resuming"),
    }
)

#: The "saving group": its states share a session, and are no interior states of a path.
SAVING = frozenset({"pre-copy", "pre-copy-p2p", "stop-copy"})
P2P = frozenset({"running-p2p", "pre-copy-p2p"})
PRE_COPY = frozenset({"pre-copy", "pre-copy-p2p"})

#: What a driver may support besides STOP_COPY: (P2P, PRE_COPY).
ABILITIES = tuple(product((False, True), repeat=2))


def exists(state: str, p2p: bool, precopy: bool) -> bool:
    """Whether a device has the state: two of its properties are optional."""
    return (p2p or state not in P2P) and (precopy or state not in PRE_COPY)


def path(current: str, wanted: str, p2p: bool, precopy: bool) -> tuple[str, ...] | None:
    """The states on the way, `wanted` last; None where the kernel fails with EINVAL.

    "Select the shortest path." What is optional and not there behaves as its running counterpart:
    the path goes through it unseen.
    """
    if current == wanted:
        return ()
    if "error" in (current, wanted) or not exists(wanted, p2p, precopy):
        return None
    if current == "stop-copy" and wanted in PRE_COPY:
        return None  # a session of a stopped device does not become one of a running device
    inside = {current, wanted} <= SAVING
    paths: list[tuple[str, ...]] = [(current,)]
    while paths:
        longer = [(*way, end) for way in paths for begin, end in sorted(ARCS) if begin == way[-1]]
        arrived = [way for way in longer if way[-1] == wanted]
        if arrived:
            assert len(arrived) == 1, f"two ways of the same length: {arrived}"
            return tuple(state for state in arrived[0][1:] if exists(state, p2p, precopy))
        paths = [
            way for way in longer if way[-1] not in way[:-1] and (inside or way[-1] not in SAVING)
        ]
    return None


def opens(current: str, wanted: str) -> str:
    """What data descriptor one gets on a path that has been taken, "" for none."""
    if current == wanted:
        return ""
    if wanted == "resuming":
        return "resuming"
    return "saving" if wanted in SAVING and current not in SAVING else ""
