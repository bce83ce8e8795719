"""When it is the emulation that fails: the outcome says so, and who died first."""

import re
from collections.abc import Callable

import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.fixtures.vfio import Vfio
from qmptests.outcome import Result

Migrate = Callable[..., Migration]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_supervisor_that_is_killed_in_precopy_died_first(
    migration: Migrate, vfio: Vfio, side: str
) -> None:
    """Its QEMU dies with it; nothing is said of that one."""
    call = "read+die" if side == "source" else "set-state:resuming+die"
    device = vfio.emulated("idle", initial="1M", when=[f"{call}+side={side}"])
    outcome = migration(devices=[device], expected=Result.EMULATION_FAILED).run()
    assert outcome.as_expected, outcome
    said = f"^{side}: the supervisor of {side} died first: it was killed by SIGKILL"
    assert re.search(said, outcome.record.error)


def test_a_request_that_no_device_knows_is_named(migration: Migrate, vfio: Vfio) -> None:
    """`display=on` has QEMU ask for graphics planes (VFIO_DEVICE_QUERY_GFX_PLANE)."""
    device = vfio.emulated("idle", display="on")
    outcome = migration(devices=[device], expected=Result.EMULATION_FAILED).run()
    assert outcome.as_expected, outcome
    assert "0x3b72" in outcome.record.error


@pytest.mark.parametrize(
    "rule", ["get-state+errno=EIO", "read+flip+nth=1000", "read+hold+after=600s"]
)
def test_a_fault_that_never_comes_fails_the_migration(
    migration: Migrate, vfio: Vfio, rule: str
) -> None:
    outcome = migration(vm="none", devices=[vfio.emulated("idle", when=[rule])]).run()
    assert outcome.record.result is Result.RULE_NEVER_FIRED, outcome
    assert outcome.record.error == f"device vf0: the rule '{rule}' never fired"
    assert not outcome.as_expected
