"""Which guests there are, by kind and architecture.

Another guest, or another architecture for one, is an entry in `_MAKERS` and a module beside this.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from qmptests.errors import InputError
from qmptests.guests.dirtier import Dirtier, DirtierParameters
from qmptests.guests.none import NoGuest
from qmptests.guests.protocol import Guest

_Maker = Callable[[str, Mapping[str, Any], int], Guest]


def _none(architecture: str, parameters: Mapping[str, Any], _ram: int) -> Guest:
    _known_keys("none", parameters, ())
    return NoGuest(architecture)


def _dirtier(_architecture: str, parameters: Mapping[str, Any], ram: int) -> Guest:
    keys = DirtierParameters.__struct_fields__
    _known_keys("dirtier", parameters, keys)
    for key, value in parameters.items():
        if type(value) is not int:  # a bool is no size
            raise InputError(f"guest.{key}: {value!r} is not a whole number")
    return Dirtier(msgspec.convert(parameters, DirtierParameters), ram=ram)


_EVERY_ARCHITECTURE = "*"
_MAKERS: dict[str, dict[str, _Maker]] = {
    "none": {_EVERY_ARCHITECTURE: _none},
    "dirtier": {"x86_64": _dirtier},
}


def kinds(architecture: str = "x86_64") -> list[str]:
    """The kinds of guests that run on `architecture`, a QEMU target."""
    return [
        kind
        for kind, makers in _MAKERS.items()
        if {architecture, _EVERY_ARCHITECTURE} & set(makers)
    ]


def create(
    kind: str, parameters: Mapping[str, Any], *, ram: int, architecture: str = "x86_64"
) -> Guest:
    """The guest `kind` for a VM with `ram` bytes of memory.

    `parameters`: the other keys of the definition's `[guest]` table, sizes in bytes.
    Raises InputError, with the key's path, if there is no such guest or a parameter can't be.
    """
    makers = _MAKERS.get(kind, {})
    maker = makers.get(architecture) or makers.get(_EVERY_ARCHITECTURE)
    if maker is None:
        raise InputError(
            f"guest.kind: no guest {kind!r} for {architecture}; "
            f"there are: {', '.join(kinds(architecture))}"
        )
    return maker(architecture, parameters, ram)


def _known_keys(kind: str, parameters: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in parameters:
        if key not in known:
            what = f"it knows {', '.join(known)}" if known else "it takes none"
            raise InputError(f"guest.{key}: no such parameter of the guest {kind}; {what}")
