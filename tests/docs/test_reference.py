"""The reference pages list what there is, and nothing else."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from msgspec import structs

from qmptests import guests, plugin
from qmptests.cli.commands import cli
from qmptests.fixtures import hooks
from qmptests.guests.dirtier import DirtierParameters
from qmptests.vfio.profile import VfioProfile
from qmptests.vfio.script import DO
from qmptests.vfio.when import CALLS, When
from qmptests.vm import Definition, devices, dialect, parse, shipped
from qmptests.vm.devices import DeviceProfile

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def section(page: str, title: str) -> str:
    """The part of a page from a heading to the next one."""
    text = (REFERENCE / page).read_text()
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section '{title}'"
    return found[1]


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of all tables in a section, without their headings; code without backquotes."""
    lines = section(page, title).replace("`", "").splitlines()
    following = [*lines[1:], ""]
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line, after in zip(lines, following, strict=True)
        if line.startswith("|") and not line.startswith("|---") and not after.startswith("|---")
    ]


def first_cells(page: str, title: str) -> list[str]:
    return [row[0] for row in rows(page, title)]


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below `command` with its whole name."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield f"{path} {name}", below
            yield from commands(below, f"{path} {name}")


COMMANDS = dict(commands(cli, "qmptests"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented(name: str) -> None:
    parameters = [p for p in COMMANDS[name].params if isinstance(p, click.Option)]
    real = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
    named = " ".join(first_cells("cli.md", name))
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", named)) == real


def test_every_documented_command_exists() -> None:
    text = (REFERENCE / "cli.md").read_text()
    assert set(re.findall(r"^#+ (qmptests .+)$", text, re.MULTILINE)) == set(COMMANDS)


def test_every_default_and_choice_of_migrate_is_right() -> None:
    documented = {row[0].split()[0].rstrip(","): row for row in rows("cli.md", "qmptests migrate")}
    for parameter in COMMANDS["qmptests migrate"].params:
        row = documented.get(parameter.opts[0]) or documented[parameter.opts[-1]]
        if isinstance(parameter.default, str) and parameter.default:
            assert row[1] == parameter.default
        elif isinstance(parameter.default, float):
            assert row[1] == f"{parameter.default:g}"
        if isinstance(parameter.type, click.Choice) and len(parameter.type.choices) < 5:
            assert all(choice in " ".join(row) for choice in parameter.type.choices)


def test_every_key_of_a_vm_definition_is_documented_with_its_default() -> None:
    documented = {row[0]: row[2] for row in rows("vm-definitions.md", "Keys")}
    fields = {field.name: field for field in msgspec.structs.fields(Definition)}
    assert set(documented) == set(fields)
    for name in ("machine", "memory", "cpus"):
        assert documented[name] == str(fields[name].default)


def test_every_shipped_vm_is_documented() -> None:
    assert first_cells("vm-definitions.md", "VM definitions") == shipped()


def test_every_device_profile_is_documented_with_its_description() -> None:
    documented = {row[0]: row[1] for row in rows("device-profiles.md", "Device profiles")}
    assert documented == {name: devices.load(name).description for name in devices.shipped()}


def test_every_key_of_a_device_profile_is_documented() -> None:
    fields = DeviceProfile.__struct_fields__
    assert first_cells("device-profiles.md", "Keys") == list(fields)


def test_the_example_of_a_device_profile_is_one() -> None:
    text = (REFERENCE / "device-profiles.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    name = "virtio-scsi"
    assert devices.parse(example, "device-profiles.md", name) == devices.load(name)


def test_every_key_of_a_vfio_profile_is_documented_with_its_default() -> None:
    documented = {row[0]: row[1] for row in rows("vfio-profiles.md", "Keys of `[vfio]`")}
    fields = {
        field.name: getattr(VfioProfile(), field.name) for field in structs.fields(VfioProfile)
    }
    assert list(documented) == list(fields)
    for name, default in fields.items():
        if default not in (None, ""):
            assert documented[name] == msgspec.json.encode(default).decode().strip('"')


def test_every_key_of_a_rule_is_documented() -> None:
    keys = [field.encode_name for field in structs.fields(When)]
    assert first_cells("vfio-profiles.md", "Keys of `[[vfio.when]]`") == keys


def test_everything_that_a_rule_can_do_is_documented_by_an_example_that_is_right() -> None:
    documented = first_cells("vfio-profiles.md", "What can happen")
    assert [example.partition("=")[0] for example in documented] == list(DO)
    for example in documented:
        assert When(call="read", do=example).rule()


def test_every_call_of_a_rule_is_documented() -> None:
    documented = ", ".join(first_cells("vfio-profiles.md", "Calls")).split(", ")
    assert set(documented) == set(CALLS)


def test_the_examples_of_vfio_profiles_are_right() -> None:
    page = (REFERENCE / "vfio-profiles.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert devices.parse(example, "vfio-profiles.md", "x").vfio
    options = re.findall(r"--device (\S+)", page)
    assert len(options) == 3
    assert all(devices.load(option).vfio for option in options)


def test_every_guest_and_its_keys_are_documented() -> None:
    page = (REFERENCE / "vm-definitions.md").read_text()
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == set(guests.kinds())
    documented = {row[0]: row[1] for row in rows("vm-definitions.md", "dirtier")}
    assert list(documented) == list(DirtierParameters.__struct_fields__)
    sizes = {"1M": 1 << 20, "16M": 16 << 20, "32M": 32 << 20}
    for name, default in documented.items():
        assert getattr(DirtierParameters(), name) == (sizes.get(default) or int(default))


def test_the_example_of_a_vm_definition_is_one() -> None:
    text = (REFERENCE / "vm-definitions.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert parse(example, "vm-definitions.md", "example").make_guest().kind == "dirtier"


class _Declared:
    """Takes what the plugin declares, as pytest's parser does."""

    def __init__(self) -> None:
        self.options: set[str] = set()
        self.keys: set[str] = set()

    def getgroup(self, *_: str) -> "_Declared":
        return self

    def addoption(self, *names: str, **_: Any) -> None:
        self.options.update(names)

    def addini(self, name: str, *_: Any, **__: Any) -> None:
        self.keys.add(name)


def test_every_pytest_option_and_ini_key_is_documented() -> None:
    declared = _Declared()
    plugin.pytest_addoption(declared)  # type: ignore[arg-type]
    table = [row for row in rows("pytest.md", "Options") if row[0].startswith("--")]
    assert {row[0].split()[0].partition("=")[0] for row in table} == declared.options
    assert {row[1] for row in table} - {""} == declared.keys


def test_every_fixture_marker_and_hook_is_documented() -> None:
    kind = type(pytest.fixture(lambda: None))
    modules = [importlib.import_module(name) for name in plugin.pytest_plugins]
    fixtures = {n for module in modules for n, of in vars(module).items() if isinstance(of, kind)}
    first = [row[0] for row in rows("pytest.md", "Fixtures")]
    assert set(first[: first.index("vm")]) == fixtures
    markers = {text.partition(":")[0] for text in plugin.MARKERS}
    assert set(first_cells("pytest.md", "Markers")) == markers
    named = {n for n in vars(hooks) if n.startswith("pytest_")}
    documented = first_cells("pytest.md", "Hooks")
    assert {text.partition("(")[0] for text in documented} == named


def test_every_difference_of_versions_is_documented() -> None:
    assert rows("versions.md", "QEMU versions") == [
        [feature.name, ".".join(map(str, feature.value.since)), feature.value.what.replace("`", "")]
        for feature in dialect.Feature
    ]
