"""What is asked for in words becomes axes; nothing is launched."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from qmptests import dirs
from qmptests.builds import Build, add
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.matrix import request
from qmptests.matrix.axes import capabilities_name, device_name
from qmptests.matrix.request import Request

OLD, NEW, LAST = "debian:bookworm", "debian:trixie", "debian:trixie-backports"


def silent(_: str) -> None:
    """Progress that nobody wants to see."""


@pytest.fixture
def own_registry(tmp_path: Path, real_builds: list[Build], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty registry; the packages are those of the user's cache."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "packages").symlink_to(dirs.cache_dir() / "packages")
    monkeypatch.setenv("QMPTESTS_CACHE", str(cache))
    return cache


def pairs(
    builds: Sequence[str] = (), sources: Sequence[str] = (), destinations: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """The pairs' specs."""
    asked = Request(builds=builds, sources=sources, destinations=destinations)
    return [(s.spec, d.spec) for s, d in request.axes(asked, silent).pairs]


def test_builds_are_paired_each_with_each(own_registry: Path) -> None:
    assert pairs([OLD, NEW]) == [(OLD, OLD), (OLD, NEW), (NEW, OLD), (NEW, NEW)]


def test_sources_and_destinations_are_paired_with_each_other_only(own_registry: Path) -> None:
    assert pairs(sources=[OLD, NEW], destinations=[LAST]) == [(OLD, LAST), (NEW, LAST)]


def test_the_side_that_is_not_named_is_every_build(own_registry: Path) -> None:
    assert pairs([OLD, NEW], sources=[LAST]) == [(LAST, OLD), (LAST, NEW)]
    assert pairs([OLD, NEW], destinations=[LAST]) == [(OLD, LAST), (NEW, LAST)]


def test_without_any_name_it_is_every_build_that_was_added(own_registry: Path) -> None:
    add([NEW, OLD])
    assert pairs() == [(OLD, OLD), (OLD, NEW), (NEW, OLD), (NEW, NEW)]
    assert pairs(sources=[NEW]) == [(NEW, OLD), (NEW, NEW)]


def test_a_build_that_is_called_in_two_ways_is_one(own_registry: Path) -> None:
    (build,) = add([NEW])
    assert pairs([NEW, build.name, NEW]) == [(NEW, NEW)]
    assert pairs(sources=[NEW], destinations=[build.name, OLD]) == [(NEW, NEW), (NEW, OLD)]


def test_without_added_builds_and_any_on_path_there_is_nothing_to_run(
    own_registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="there is no qemu-system"):
        pairs()


def test_an_added_build_that_is_gone_is_not_left_out_silently(
    own_registry: Path, tmp_path: Path
) -> None:
    (build,) = add([NEW])
    (own_registry / "packages").unlink()
    with pytest.raises(EnvironmentFailure, match=f"the added build {build.name} can't be used"):
        pairs()


def test_an_axis_has_the_values_that_are_named_and_no_other(own_registry: Path) -> None:
    axes = request.axes(Request(builds=[NEW]), silent)
    assert [device_name(d) for d in axes.devices] == ["none"]
    assert [vm.name for vm in axes.vms] == ["dirtier"]
    assert [*axes.transports] == ["unix"]
    asked = Request(
        builds=[NEW],
        devices=["usb", "none", "usb"],
        vms=["none"],
        transports=["tcp"],
        capabilities=["multifd+return-path=off", "none"],
        machines=["q35"],
        accelerator="kvm",
        deprecated=False,
    )
    axes = request.axes(asked, silent)
    assert [device_name(d) for d in axes.devices] == ["usb", "none"]
    assert [vm.name for vm in axes.vms] == ["none"]
    assert [*axes.transports] == ["tcp"]
    assert [capabilities_name(c) for c in axes.capabilities] == ["multifd+return-path.off", "none"]
    assert (axes.machines, axes.accelerator, axes.deprecated) == (["q35"], "kvm", False)


def test_a_capability_that_only_some_builds_have_is_left_to_the_pruning(own_registry: Path) -> None:
    asked = Request(builds=[OLD, NEW, LAST], capabilities=["switchover-ack"])
    matrix, builds = request.matrix(asked, "smoke", ["source=10*"], silent)
    assert [build.spec for build in builds] == [OLD, NEW, LAST]
    assert {c.coordinates["destination"] for c in matrix.selected} == {"11.1.3"}
    assert any(cell.reason == "capability-lacking" for cell in matrix.cells)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Request(builds=[OLD], sources=[OLD], destinations=[OLD]), "are all named"),
        (Request(builds=[NEW], capabilities=["multfd"]), "did you mean 'multifd'"),
        (Request(builds=[NEW], devices=["flux"]), "unknown device profile 'flux'"),
        (Request(builds=[NEW], vms=["flux"]), "unknown VM definition 'flux'"),
        (Request(builds=[NEW], transports=["flux"]), "unknown transport 'flux'"),
    ],
)
def test_what_is_no_value_of_an_axis_is_refused(
    own_registry: Path, asked: Request, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        request.axes(asked, silent)
