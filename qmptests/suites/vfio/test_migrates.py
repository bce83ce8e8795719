"""Each kind of device migrates, and what it sent arrives byte for byte."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qmptests.fixtures.migrating import Migration
    from qmptests.fixtures.vfio import Vfio

    Migrate = Callable[..., Migration]

pytestmark = [
    pytest.mark.usefixtures("cell"),
    pytest.mark.qemu_cells("machine=*q35*", select="smoke", vfio=True),
]


@pytest.mark.parametrize("profile", ["idle", "busy", "iommu-dirty-tracking"])
def test_its_data_arrives(migration: "Migrate", vfio: "Vfio", profile: str) -> None:
    device = vfio.emulated(profile)
    outcome = migration(devices=[device], capabilities=["return-path"]).run()
    assert outcome.completed, outcome
    (there,) = outcome.destination.record.devices
    assert there.arrival is not None
    assert there.arrival.problem == ""
