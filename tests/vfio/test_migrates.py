"""The short proof that emulated devices work, for CI's run as an ordinary user."""

from collections.abc import Callable

import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.fixtures.vfio import Vfio


@pytest.mark.smoke
def test_a_device_migrates_and_all_its_data_arrives(
    migration: Callable[..., Migration], vfio: Vfio
) -> None:
    outcome = migration(devices=[vfio.emulated("busy"), vfio.emulated("idle")]).run()
    assert outcome.completed, outcome
    for here, there in zip(
        outcome.source.record.devices, outcome.destination.record.devices, strict=True
    ):
        assert there.arrival is not None
        assert there.arrival.chunks == here.sent
        assert there.arrival.problem == ""


def test_a_qemu_with_hundreds_of_sockets_keeps_them(
    migration: Callable[..., Migration], vfio: Vfio
) -> None:
    """The numbers of data descriptors were among those of its 240 channels: it aborted."""
    outcome = migration(
        devices=[vfio.emulated("idle")],
        capabilities={"multifd": True, "return-path": True},
        parameters={"multifd-channels": 240},
    ).run()
    assert outcome.completed, outcome
