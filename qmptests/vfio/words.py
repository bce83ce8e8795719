"""Numbers of the ABI in words, as logs, scripts and profiles have them.

A number that has no word stays a number.
"""

from enum import IntEnum

from qmptests.vfio import abi
from qmptests.vfio.abi import State


def _words(members: type[IntEnum]) -> dict[int, str]:
    return {int(member): member.name.lower().replace("_", "-") for member in members}


_STATES = _words(State)
_STATE_OF = {word: State(number) for number, word in _STATES.items()}
_REGIONS = _words(abi.Region)
_IRQS = _words(abi.Irq)
_FEATURES = _words(abi.Feature)
_ACTIONS = {
    int(abi.IrqSetFlag.ACTION_MASK): "mask",
    int(abi.IrqSetFlag.ACTION_UNMASK): "unmask",
    int(abi.IrqSetFlag.ACTION_TRIGGER): "trigger",
}
_ACTION = sum(_ACTIONS)


def state_word(state: int) -> str:
    """A device state as QAPI's VFIO_MIGRATION event spells it."""
    return _STATES.get(state) or str(state)


def state_of(word: str) -> State:
    """The state that is spelt so. Raises ValueError, which names them all, if none is."""
    try:
        return _STATE_OF[word]
    except KeyError:
        raise ValueError(f"'{word}' is none of the states {', '.join(_STATE_OF)}") from None


def region_word(index: int) -> int | str:
    """A region of a PCI device: bar0 to bar5, rom, config, vga."""
    return _REGIONS.get(index, index)


def irq_word(index: int) -> int | str:
    """A kind of interrupt of a PCI device: intx, msi, msix, err, req."""
    return _IRQS.get(index, index)


def action_word(flags: int) -> int | str:
    """What IrqSet's flags ask for: mask, unmask, trigger."""
    return _ACTIONS.get(flags & _ACTION, flags & _ACTION)


def feature_word(number: int) -> int | str:
    """A feature as the kernel's header names it, such as dma-logging-start."""
    return _FEATURES.get(number, number)
