"""Device profiles: what is right loads and migrates, what is wrong says where, in one line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from qmptests.errors import InputError
from qmptests.fixtures.migrating import Migration
from qmptests.outcome import Result
from qmptests.suites.compat.hardware import Hardware
from qmptests.vfio.profile import VfioProfile
from qmptests.vm import Definition, devices
from qmptests.vm.command import Options, command_line
from qmptests.vm.devices import DeviceProfile

Migrate = Callable[..., Migration]


def test_all_shipped_profiles_load() -> None:
    assert {"e1000e", "usb", "virtio-blk", "virtio-net"} <= set(devices.shipped(vfio=False))
    assert {"idle", "busy", "faulty", "not-migratable"} <= set(devices.shipped(vfio=True))
    assert devices.shipped() == sorted(devices.shipped(vfio=False) + devices.shipped(vfio=True))
    for name in devices.shipped():
        profile = devices.load(name)
        assert profile.name == name
        assert profile.description


def test_keys_go_to_the_first_device_and_to_the_name() -> None:
    profile = devices.load("virtio-scsi,addr=0a.0,num_queues=2")
    assert profile.devices[0] == "virtio-scsi-pci,id=scsi{n},addr=0a.0,num_queues=2"
    assert profile.devices[1:] == devices.load("virtio-scsi").devices[1:]
    assert profile.name == "virtio-scsi,addr=0a.0,num_queues=2"
    assert profile.drivers == ["virtio-scsi-pci", "scsi-hd"]


def test_a_comma_in_a_value_is_doubled_as_in_qemu() -> None:
    assert devices.load("ide,serial=a,,b").devices == ["ide-hd,drive=ide{n},serial=a,,b"]


def test_a_profile_of_ones_own_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "edu.toml"
    path.write_text('devices = ["edu"]')
    assert devices.load(f"{path},addr=0a.0") == DeviceProfile(
        devices=["edu,addr=0a.0"], name="edu,addr=0a.0"
    )


def test_keys_go_to_the_emulated_device_if_there_is_one() -> None:
    profile = devices.load("busy,stop_copy=1G,addr=0a.0,when=read+errno=EIO,bars=4K+8K,,no-mmap")
    assert profile.name == ("busy,stop_copy=1G,addr=0a.0,when=read+errno=EIO,bars=4K+8K,,no-mmap")
    assert profile.vfio
    assert profile.vfio.stop_copy == "1G"
    assert profile.vfio.bars == ["4K", "8K,no-mmap"]
    assert profile.vfio.device_options == "addr=0a.0"
    assert [rule.line() for rule in profile.vfio.when] == ["read+errno=EIO"]
    assert profile.drivers == ["vfio-pci"]
    assert profile.arguments(0) == [], "its descriptors are not known here"


def test_a_device_that_is_not_plugged_has_its_iommufd_only() -> None:
    argv = command_line(
        ["qemu"],
        (10, 0, 0),
        Definition(),
        Options(
            machine="pc-q35-10.0",
            devices=(devices.load("idle,plugged=off"), devices.load("idle")),
        ),
        guest_args=[],
        trace_file=Path("/log"),
    )
    assert argv[argv.index("-object") :] == [
        *("-object", "iommufd,id=iommufd0,fd=200"),
        *("-device", "vfio-pci,id=vf1,fd=202,iommufd=iommufd0,addr=0x11"),
    ]


def test_a_profile_may_have_devices_and_an_emulated_one() -> None:
    text = 'devices = ["edu"]\nargs = ["-S"]\n[vfio]\nstop_copy = "8K"'
    profile = devices.parse(text, "x.toml", "x")
    assert profile.drivers == ["edu", "vfio-pci"]
    assert profile.arguments(0) == ["-device", "edu", "-S"]


def test_each_profile_has_a_number_on_the_command_line() -> None:
    nic = devices.load("virtio-net")
    argv = command_line(
        ["qemu"],
        (10, 0, 0),
        Definition(devices=["edu"], args=["-boot", "menu=on"]),
        Options(machine="pc-q35-10.0", devices=(nic, nic), extra=["-extra"]),
        guest_args=[],
        trace_file=Path("/log"),
    )
    assert argv[argv.index("edu") - 1 :] == [
        *("-device", "edu", "-boot", "menu=on"),
        *("-device", "virtio-net-pci,netdev=net0", "-netdev", "hubport,id=net0,hubid=0"),
        *("-device", "virtio-net-pci,netdev=net1", "-netdev", "hubport,id=net1,hubid=1"),
        "-extra",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "x.toml: neither devices nor [vfio]: there is nothing to add"),
        ("devices = [", "x.toml:1: not valid TOML: "),
        ("devices = []", "x.toml: neither devices nor [vfio]: there is nothing to add"),
        ("vfio = 1", "x.toml: vfio: Expected `object | null`, got `int`"),
        ("[vfio]\nstop-copy = 1", "x.toml: vfio: unknown key 'stop-copy'; near it: stop_copy"),
        ("[vfio]\nstop_copy = 1", "x.toml: vfio.stop_copy: 1 is not a multiple of 4096 bytes"),
        ("[vfio]\nmsix = true", "x.toml: vfio.msix: Expected `int`, got `bool`"),
        ("[vfio]\nwhen = [{call = 'read'}]", "x.toml: vfio.when[0]: Object missing required field"),
        ("[vfio]\nwhen = [1]", "x.toml: vfio.when[0]: Expected `object`, got `int`"),
        ('devices = [",a=b"]', "x.toml: devices: each is a -device option"),
        ("devices = [1]", "x.toml: devices[0]: Expected `str`, got `int`"),
        ('devices = ["edu"]\ncolour = 1', "x.toml: Object contains unknown field `colour`"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_with_its_place(text: str, error: str) -> None:
    with pytest.raises(InputError) as caught:
        devices.parse(text, "x.toml", "x")
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nope", r"unknown device profile 'nope': there are busy, .*; or give the path"),
        ("/no/such.toml", r"cannot read device profile /no/such.toml: No such file"),
        ("usb,fast", r"device 'usb,fast': 'fast' is not KEY=VALUE"),
        ("usb,", r"device 'usb,': '' is not KEY=VALUE"),
        ("usb,=1", r"device 'usb,=1': '=1' is not KEY=VALUE"),
        ("busy,fast", r"device 'busy,fast': 'fast' is not KEY=VALUE"),
        ("busy,late=1", r"device 'busy,late=1': vfio.late: 1 is not a multiple of 4096 bytes"),
        ("busy,lat=1", r"device 'busy,lat=1': unknown key 'lat'; near it: late, "),
    ],
)
def test_what_is_wrong_in_an_option_is_said_in_one_line(text: str, error: str) -> None:
    with pytest.raises(InputError, match=error):
        devices.load(text)


@given(
    st.text(max_size=40)
    | st.text("usb,=a. ", max_size=20).map("usb,".__add__)
    | st.text("late,=1M+", max_size=20).map("busy,late".__add__)
)
def test_no_option_is_more_than_an_input_error(text: str) -> None:
    try:
        assert isinstance(devices.load(text), DeviceProfile)
    except InputError as error:
        assert "\n" not in str(error) or "\n" in text  # noqa: PT017


def test_a_build_that_lacks_a_device_is_named_before_anything_starts(migration: Migrate) -> None:
    profile = DeviceProfile(devices=["usb-teapot,id=t"], name="pot")
    wanted = migration(devices=(), destination_devices=(profile,))
    new = wanted.plan.destination
    words = f"the destination {new.name} ({new.spec}) has no device 'usb-teapot'"
    with pytest.raises(InputError, match=f"{re.escape(words)}, which device profile 'pot' needs"):
        wanted.run()
    assert not wanted.output.exists()


def test_a_build_whose_vfio_takes_no_descriptor_is_named(migration: Migrate) -> None:
    build, idle = migration(devices=()).plan.destination, devices.load("idle")
    devices.check(build, "source", [idle])
    old = replace(build, facts=replace(build.facts, version=(8, 2, 9)))
    with pytest.raises(InputError, match=r"the source .* has no vfio-pci with fd= \(QEMU 9\.0\), "):
        devices.check(old, "source", [idle])
    without = replace(build, facts=replace(build.facts, devices=frozenset({"edu"})))
    with pytest.raises(
        InputError, match=r"the source .* has no device 'vfio-pci', which device pro"
    ):
        devices.check(without, "source", [idle])


def test_more_than_eight_emulated_devices_are_too_many(migration: Migrate) -> None:
    build = migration(devices=()).plan.destination
    profile = DeviceProfile(name="x", vfio=VfioProfile())
    devices.check(build, "source", [profile] * 8)
    with pytest.raises(InputError, match="too many devices: the source has 9 emulated ones, 8 is"):
        devices.check(build, "source", [profile] * 9)


#: Emulated devices that are shipped to be refused, or to fail.
REFUSED = {"no-dirty-tracking", "not-migratable"}
FAILS = {"faulty"}


@pytest.mark.parametrize("name", devices.shipped())
def test_every_shipped_profile_migrates(migration: Migrate, name: str) -> None:
    """To the same version: what versions make of each other is what users look for."""
    wanted = migration(devices=(devices.load(name),))
    build = wanted.plan.destination
    result = Result.COMPLETED
    if name in REFUSED:
        result = Result.QMP_ERROR
    elif name in FAILS:
        result = Result.FAILED_DESTINATION_EXITED
    outcome = migration(
        devices=(devices.load(name),), source=build, capabilities=["return-path"], expected=result
    ).run()
    assert outcome.as_expected, outcome
    assert outcome.record.name.endswith(f"-x.{name}")
    assert outcome.record.plan.devices[0]["name"] == name


def test_both_sides_put_profiles_in_the_same_place_and_one_may_come_twice(
    migration: Migrate,
) -> None:
    wanted = ("e1000e", "usb", "ide", "e1000e,addr=0a.0", "usb")
    hardware = Hardware()
    outcome = migration(devices=tuple(map(devices.load, wanted))).run(hardware)
    assert outcome.completed
    assert hardware.source == hardware.destination
    assert len([place for place in hardware.source if place.startswith("pci 00:0")]) > 3
    assert "pci 00:0a.0" in hardware.source
