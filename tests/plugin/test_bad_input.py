"""Bad input is one line and pytest's status for a wrong use, before anything runs or is written."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

LEDGER = """
[[issue]]
name = "one"
reference = "here"
expires = 2999-01-01
result = "source-died"
side = "source"
stage = "active"
text = 'words'
cells = "source=*"
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--qemu-cell=sauce=10*", "unknown axis 'sauce': did you mean 'source'?"),
        ("--qemu-cell=source=7*", "'source=7*' selects none of the 2 cells of 'smoke'"),
        ("--qemu-matrix=tiny", "unknown selection 'tiny': there are smoke, pairwise, full"),
        ("--qemu-machine=pc-q35-99.0", "no machine type of 10.0, 11.1 matches 'pc-q35-99.0'"),
        ("--qemu-transport=pigeon", "pigeon"),
        ("--qemu-device=virtio-nett", "virtio-nett"),
        ("--qemu-vm=nonne", "nonne"),
        ("--qemu-capabilities=multifdd", "'multifdd': did you mean 'multifd'?"),
        ("--qemu-accel=abacus", "no cell that can exist"),
        ("--qemu-build=no-such", "no-such"),
        ("--qemu-source=debian:trixie --qemu-destination=debian:trixie", "name builds"),
        ("--qemu-known-issues=pattern.toml", "pattern.toml: issue 'one': text: '(' is not a reg"),
        ("--qemu-known-issues=key.toml", "key.toml: issue 'one': "),
        ("--qemu-known-issues=none.toml", "none.toml"),
        ("--qemu-args='\"-x'", "--qemu-args '\"-x': No closing quotation"),
        ("--qemu-wrapper='\"gdb'", "--qemu-wrapper '\"gdb': No closing quotation"),
        ("--qemu-pause-on-failure -n1", "--qemu-pause-on-failure waits for a person: leave -n out"),
        ("--qemu-destination=", "--qemu-destination: it is empty: leave it out, or see whether"),
        ("--qemu-matrix=", "--qemu-matrix: it is empty"),
        ("-k ''", "-k: it is empty"),
        ("-m ' '", "-m: it is empty"),
        ("--qemu-results=there", "there exists already: results are never overwritten"),
        ("--qemu-results=pattern.toml/run", "pattern.toml/run: Not a directory"),
        ("--qemu-results=/proc/run", "cannot create /proc/run: "),
    ],
)
def test_it_is_refused_in_one_line(suite: "Suite", options: str, words: str) -> None:
    (suite.path / "pattern.toml").write_text(LEDGER.replace("'words'", "'('"))
    (suite.path / "key.toml").write_text(LEDGER + "colour = 'red'")
    (suite.path / "there").mkdir()
    suite.write("raise AssertionError('not even imported')")
    suite.refused(suite.matrix_here(options), words)


def test_a_machine_that_can_not_do_it_is_a_status_of_its_own(
    suite: "Suite", monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.migrating()
    monkeypatch.setenv("QMPTESTS_CACHE", "/proc/cache")
    result = suite.matrix()
    assert result.ret == 3
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["!* environment: */proc/cache*"])
    assert not suite.folder.exists()


def test_the_same_in_an_ini_file(suite: "Suite") -> None:
    suite.pytester.makeini("[pytest]\nqemu_args = '-x\n")
    suite.write("def test_it(): pass")
    suite.refused(suite.run(), '--qemu-args "\'-x": No closing quotation')
