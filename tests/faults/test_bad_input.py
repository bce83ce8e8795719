"""What can't be as it was asked for: one line that says what and where, exit status 2, and
nothing made."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qmptests.builds import Build


@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        (["--capability", "teleport"], "the source {0} has no migration capability 'teleport'"),
        (["--capability", "multifd=maybe"], "capability 'multifd=maybe': on or off, not 'maybe'"),
        (["--parameter", "max-bandwith=1"], "the source {0} has no migration parameter 'max-band"),
        (["--parameter", "downtime-limit"], "'downtime-limit' is not NAME=VALUE"),
        (["--machine", "pc-q35-77.7"], "QEMU "),
        (["--accel", "warp"], "the source "),
        (["--vm", "nosuch"], "unknown VM definition 'nosuch': there are dirtier, none"),
        (["--source-args", "'"], '--source-args "\'": No closing quotation'),
        (["--timeout", "nan"], "a deadline of nan s is impossible"),
        (["--timeout", "inf"], "a deadline of inf s is impossible"),
        (["--timeout", "1e300"], "a deadline of 1e+300 s is impossible"),
        (["--retries", "9" * 30], "Invalid value for '--retries': "),
        (["--timeout", "soon"], "Invalid value for '--timeout': 'soon' is not a valid float"),
        (["--transport", "pigeon"], "Invalid value for '--transport': 'pigeon' is not one of"),
        (["--capabilty", "multifd"], "No such option"),
    ],
    ids=lambda value: "=".join(value).lstrip("-") if isinstance(value, list) else "",
)
def test_an_option_that_can_not_be(
    migrate: Callable[..., Any], source_build: "Build", arguments: list[str], beginning: str
) -> None:
    command = migrate(*arguments)
    name = f"{source_build.name} ({source_build.spec})"
    command.finish().said(2, beginning.format(name))
    assert not list(command.folder.iterdir())


@pytest.mark.parametrize("value", ["soon", "-1", "99999999999999999999999"])
def test_a_value_that_only_qemu_knows_to_be_wrong(migrate: Callable[..., Any], value: str) -> None:
    """It is the user's to correct too: exit status 2, and QEMU's own words."""
    ended = migrate("--parameter", f"downtime-limit={value}", "--vm", "none").finish()
    assert ended.status == 2
    assert ended.err == ""
    assert (
        "because      source: migrate-set-parameters: Parameter 'downtime-limit' expects uint64"
        in ended.out
    )


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ('memory = "256M"\ncpus = = 2\n', "{}:2: not valid TOML: "),
        ('memory = "256M"\n\n[guest\n', "{}:3: not valid TOML: "),
        ("a=" + "[" * 5000, "{}: nested too deeply"),
        ("\xff", "cannot read VM definition {}: not UTF-8"),
        ('cpus = "two"\n', "{}: cpus: Expected `int`, got `str`"),
        ('memory = "much"\n', "{}: memory: 'much' is not a size"),
        ("cpus = 1" + "0" * 5000, "{}: a value is impossible: Exceeds the limit"),
        ("cpus = 1" + "0" * 400, "{}: cpus: the number is out of range"),
        ('[guest]\nkind = "dirtier"\nrate = inf\n', "{}: guest.rate: the number is out of range"),
        ('args = ["a\\u0000b"]\n', "{}: 'args[0]': a NUL can't be passed"),
        ('memmory = "1M"\n', "{}: Object contains unknown field `memmory`"),
        ('devices = ["a", 1]\n', "{}: devices[1]: Expected `str`, got `int`"),
        ('[guest]\nkind = "dirtier"\nrate = "-1M"\n', "{}: guest.rate: '-1M' is not a size"),
        ('[guest]\nkind = "dirtier"\nrte = 1\n', "{}: guest.rte: no such parameter"),
    ],
    ids=lambda value: None if "{}" in value else value[:12].encode("unicode_escape").decode(),
)
def test_a_definition_that_can_not_be(
    migrate: Callable[..., Any], tmp_path: Path, text: str, beginning: str
) -> None:
    path = tmp_path / "vm.toml"
    path.write_bytes(text.encode("latin-1"))
    command = migrate("--vm", path)
    command.finish().said(2, beginning.format(path))
    assert not list(command.folder.iterdir())


@pytest.mark.parametrize(("name", "why"), [("no.toml", "No such file"), (".", "Is a directory")])
def test_a_definition_that_can_not_be_read(
    migrate: Callable[..., Any], tmp_path: Path, name: str, why: str
) -> None:
    path = tmp_path / name
    migrate("--vm", path).finish().said(2, f"cannot read VM definition {path}: {why}")


@pytest.mark.parametrize("name", ["output", "source-args", "json", "vm", "source", "wrapper"])
def test_bytes_that_are_not_utf8(migrate: Callable[..., Any], name: str) -> None:
    """No JSON and no script could hold them: nothing begins."""
    command = migrate(f"--{name}", os.fsdecode(b"a\xffb"))
    ended = command.finish()
    ended.said(2, "argument ")
    assert "(a\\xffb) is not UTF-8" in ended.err
    assert not list(command.folder.iterdir())


def test_a_user_without_a_home(start: Callable[..., Any]) -> None:
    words = ("setpriv", "--reuid=12345") if os.geteuid() == 0 else ("unshare", "--map-user=12345")
    wrapper = ("env", "-u", "HOME", "-u", "XDG_CACHE_HOME", "-u", "QMPTESTS_CACHE", *words)
    if subprocess.run([*wrapper, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("no user can be made that has no entry")
    start("builds", "list", wrapper=wrapper).finish().said(3, "user 12345 has no home directory: ")
