"""Builds from end to end, with a real QEMU."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qmptests import builds
from qmptests.builds import Build, accelerators, newest_common_machine
from qmptests.errors import EnvironmentFailure, InputError


def test_a_suites_qemu_runs_from_where_it_was_unpacked(trixie: Build) -> None:
    done = subprocess.run(
        [*trixie.argv, "-version"], env=trixie.env, capture_output=True, text=True, check=True
    )
    major, minor, micro = trixie.facts.version
    assert f"version {major}.{minor}.{micro}" in done.stdout
    assert "/usr/bin" not in done.stderr


def test_probing_finds_what_trixies_qemu_is_known_to_have(trixie: Build) -> None:
    facts = trixie.facts
    assert facts.version[:2] == (10, 0)
    assert facts.version_text.startswith("10.0.")
    assert facts.target == "x86_64"
    assert facts.resolve_machine("q35") == "pc-q35-10.0"
    assert facts.resolve_machine("pc") == "pc-i440fx-10.0"
    assert facts.machine("pc").is_default
    assert facts.machine("pc-q35-2.4").deprecated
    assert not facts.machine("q35").deprecated
    assert facts.machine("q35").cpu_max > 200
    assert facts.machine("q35").default_ram_id == "pc.ram"
    assert facts.has_device("vfio-pci")
    assert not facts.has_device("pci-device")  # abstract
    assert facts.has_capability("switchover-ack")
    # Not set by default, so that only the schema knows it:
    assert facts.has_parameter("block-bitmap-mapping")
    assert facts.has_parameter("downtime-limit")
    assert {"migrate", "query-migrate"} <= facts.commands
    assert {"MIGRATION", "STOP"} <= facts.events
    assert "vfio_migration_set_device_state" in facts.trace_events
    assert len(facts.trace_events) > 5000
    assert facts.trace_backends == ["log"]
    assert facts.accelerators == ["kvm", "tcg"]


def test_the_newest_common_machine_of_a_build_with_itself_is_its_newest(trixie: Build) -> None:
    assert newest_common_machine(trixie, trixie, "q35") == "pc-q35-10.0"


def test_a_name_and_a_spec_stand_for_the_same_build(own_cache: Path) -> None:
    by_spec = builds.resolve("debian:trixie")
    assert by_spec.registered
    assert builds.resolve(by_spec.name) == by_spec
    assert builds.list_builds() == [by_spec]


def test_what_is_known_is_found_without_running_anything(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = builds.resolve("debian:trixie")
    monkeypatch.setenv("PATH", "/nowhere")
    said: list[str] = []
    assert builds.resolve("debian:trixie", progress=said.append) == first
    assert said == []


def test_adding_again_keeps_the_name_and_naming_renames(own_cache: Path) -> None:
    (first,) = builds.add(["debian:trixie"])
    assert builds.add(["debian:trixie"]) == [first]
    (named,) = builds.add(["debian:trixie"], "mine")
    assert named.name == "mine"
    assert [build.name for build in builds.list_builds()] == ["mine"]


def test_the_second_build_of_a_version_gets_a_name_of_its_own(
    own_cache: Path, build_tree: Path
) -> None:
    (first, second) = builds.add(["debian:trixie", str(build_tree)])
    assert second.name == f"{first.name}-qemu"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "debian:trixie", "x" * 65])
def test_a_bad_name_is_bad_input(own_cache: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be a build's name"):
        builds.add(["debian:trixie"], name)
    assert builds.list_builds() == []


def test_a_name_that_is_taken_and_one_name_for_two_are_bad_input(
    own_cache: Path, build_tree: Path
) -> None:
    builds.add(["debian:trixie"], "mine")
    with pytest.raises(InputError, match="'mine' is taken by debian:trixie"):
        builds.add([str(build_tree)], "mine")
    with pytest.raises(InputError, match="one by one"):
        builds.add(["debian:trixie", str(build_tree)], "two")


def test_a_removed_build_is_gone(own_cache: Path, build_tree: Path) -> None:
    (build,) = builds.add([str(build_tree)])
    builds.remove(build.name)
    assert builds.list_builds() == []
    with pytest.raises(InputError, match=f"'{build.name}' is no added build; added are: none"):
        builds.remove(build.name)


def test_a_build_tree_runs_with_its_own_firmware_and_says_how_it_was_made(
    own_cache: Path, build_tree: Path
) -> None:
    build = builds.resolve(str(build_tree))
    firmware = [str(build_tree / "build" / "pc-bios"), str(build_tree / "pc-bios")]
    assert list(build.argv) == [
        str(build_tree / "build" / "qemu-system-x86_64"),
        *("-L", firmware[0], "-L", firmware[1]),
    ]
    assert build.origin["configure"] == "'../configure' '--target-list=x86_64-softmmu'"
    assert build.origin["source"] == str(build_tree)
    assert not build.registered
    assert builds.list_builds() == []


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
def test_a_build_tree_says_what_git_calls_its_source(own_cache: Path, build_tree: Path) -> None:
    git = ["git", "-C", str(build_tree), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    assert len(builds.resolve(str(build_tree)).origin["git"]) >= 7


def test_a_build_tree_is_probed_again_after_each_rebuild_and_only_then(
    own_cache: Path, build_tree: Path, rebuild: Callable[[], None]
) -> None:
    (first,) = builds.add([str(build_tree)], "mine")
    said: list[str] = []
    assert builds.resolve("mine", progress=said.append) == first
    assert said == []
    rebuild()
    again = builds.resolve("mine", progress=said.append)
    assert again.digest != first.digest
    assert len(said) == 1
    assert len(list((own_cache / "builds" / "facts").iterdir())) == 1


def test_a_build_that_vanished_is_listed_apart(own_cache: Path, build_tree: Path) -> None:
    builds.add([str(build_tree)], "mine")
    (build_tree / "build" / "qemu-system-x86_64").unlink()
    usable, broken = builds.inspect_all(progress=lambda _: None)
    assert usable == []
    assert [(item.name, "no file" in item.reason) for item in broken] == [("mine", True)]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\nexit 0\n", "exited with status 0 instead of answering QMP"),
        ("#!/bin/sh\necho dear me >&2; exit 1\n", "exited with status 1 .*: dear me"),
        ("#!/bin/sh\nkill -SEGV $$\n", "was killed by SIGSEGV"),
        ("#!/bin/sh\necho hello >&3; sleep 60\n", "no working QEMU: .*no QMP greeting"),
        ("no script\n", "can't be executed: Exec format error"),
    ],
)
def test_what_is_no_qemu_is_one_line(
    own_cache: Path, tmp_path: Path, script: str, says: str
) -> None:
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_text(script)
    binary.chmod(0o755)
    with pytest.raises(InputError, match=says) as caught:
        builds.resolve(str(binary))
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_executed_is_one_line(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "qemu").write_text("")
    with pytest.raises(InputError, match="can't be executed: Permission denied"):
        builds.resolve(str(tmp_path / "qemu"))


def test_a_cache_that_cannot_be_written_serves_a_binary_but_takes_no_name(
    build_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMPTESTS_CACHE", "/sys/qmptests")  # not even root may write there
    assert builds.resolve(str(build_tree)).facts.target == "x86_64"
    with pytest.raises(EnvironmentFailure, match=r"can't be noted .*QMPTESTS_CACHE"):
        builds.add([str(build_tree)])


def test_tcg_makes_progress_and_is_remembered(own_cache: Path) -> None:
    build = builds.resolve("debian:trixie")
    said: list[str] = []
    found = accelerators.measure(build, progress=said.append)
    tcg = next(item for item in found if item.name == "tcg")
    assert tcg.usable
    assert tcg.rounds_per_s > accelerators.USABLE_RATE
    assert {item.name for item in found} == {"kvm", "tcg"}
    assert all(item.usable or item.reason for item in found)
    assert said
    said.clear()
    assert accelerators.measure(build, progress=said.append) == found
    assert said == []


def test_an_accelerator_that_crawls_is_not_usable() -> None:
    slow = accelerators.judge("kvm", [0.0, 0.5, 1.0], [])
    assert not slow.usable
    assert slow.rounds_per_s == accelerators.rounds_after(2) == 3072
    assert "3,072 rounds" in slow.reason
    fast = accelerators.judge("kvm", [number / 100 for number in range(18)], [])
    assert fast.usable
    dead = accelerators.judge("kvm", [], ["qemu: no"])
    assert (dead.usable, dead.reason) == (False, "qemu: no")


def test_the_measuring_firmware_is_entered_at_the_reset_vector() -> None:
    image = accelerators.firmware()
    assert len(image) == 0x10000
    assert image[0xFFF0] == 0xE9  # jmp rel16
    target = (0xFFF3 + int.from_bytes(image[0xFFF1:0xFFF3], "little")) & 0xFFFF
    assert image[target : target + 3] == b"\xba\x02\x04"  # mov dx, 0x402


@pytest.mark.parametrize("suite", ["bookworm", "bookworm-backports", "trixie", "trixie-backports"])
def test_a_suite_runs_by_its_own_loader(suite: str) -> None:
    """Not by the host's, which an absolute link in bookworm's libc6 points at."""
    build = builds.resolve(f"debian:{suite}")
    root = build.binary.parents[2]
    assert Path(build.argv[0]).resolve().is_relative_to(root.resolve())
