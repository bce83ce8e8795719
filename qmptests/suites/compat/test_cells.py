"""Every machine type that two builds have in common, in both directions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from qmptests.suites.compat.hardware import Hardware

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration


@pytest.mark.usefixtures("cell")
def test_migrates(migration: "Callable[..., Migration]") -> None:
    """The guest runs on with its memory intact, on the same machine with the same devices."""
    hardware = Hardware()
    outcome = migration().run(hardware)
    assert outcome.completed, outcome
    assert _differences(hardware.source, hardware.destination) == {}


def _differences(source: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    """What differs: (source's, destination's)."""
    return {
        name: (source.get(name), destination.get(name))
        for name in source.keys() | destination.keys()
        if source.get(name) != destination.get(name)
    }
