"""A green session says what it has not tested."""

from typing import TYPE_CHECKING

import pytest

from qmptests.matrix.results import Verdict

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]

IGNORED = """
REFUSED = ("-device", "nosuch")

def test_ignored(migration{cell}):
    migration(destination_args=REFUSED).run()

def test_looked_at(migration{cell}):
    assert not migration(destination_args=REFUSED).run().completed

def test_not_run(migration{cell}):
    migration()
"""
SAID = "the test did not look at a migration's result: start-failed (1 test)"


def words(result: "pytest.RunResult") -> str:
    return " ".join(" ".join(result.outlines).split())


def test_a_session_without_a_matrix(suite: "Suite") -> None:
    suite.write(IGNORED.format(cell=""))
    result = suite.run("--qemu-build=debian:trixie", "--qemu-vm=none")
    result.assert_outcomes(passed=3)
    told = words(result)
    assert "not everything was checked:" in told
    assert SAID in told
    assert "no migration was run (1 test)" in told


def test_a_matrix(suite: "Suite") -> None:
    suite.write(IGNORED.format(cell=", cell"))
    assert suite.matrix("--qemu-cell=source=10.0").ret == 0
    told = {
        i.nodeid.partition("::")[2].partition("[")[0]: i.not_checked for i in suite.results.items
    }
    assert told == {
        "test_ignored": SAID.removesuffix(" (1 test)"),
        "test_looked_at": "",
        "test_not_run": "no migration was run",
    }


def test_what_was_not_checked_of_a_migration(suite: "Suite") -> None:
    suite.write("def test_it(migration): assert migration().run().completed")
    result = suite.run("--qemu-build=debian:trixie", "--qemu-vm=none")
    assert "not everything was checked: guest and memory not checked (1 test)" in words(result)


def test_nothing_is_said_where_all_was_checked(suite: "Suite") -> None:
    suite.write("def test_it(migration): assert migration().run().completed")
    assert "not everything" not in words(suite.run("--qemu-build=debian:trixie"))


def test_a_session_that_a_test_ends_with_status_0_is_not_green(suite: "Suite") -> None:
    suite.write(
        """
        import pytest

        def test_one(cell): pass
        def test_two(cell): pytest.exit("enough", returncode=0)
        """
    )
    result = suite.matrix("--qemu-cell=source=10.0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [item.verdict for item in suite.results.items] == [Verdict.PASSED]
    assert "finding: 1 test did not run" in result.stdout.str()


@pytest.mark.parametrize("key", ["qemu_buildd", "qemu_source_arg", "qemu_colour"])
@pytest.mark.parametrize("file", ["tox.ini", "pytest.ini", "pyproject.toml", "-o"])
def test_a_key_that_is_none_of_ours(suite: "Suite", key: str, file: str) -> None:
    suite.write("def test_it(): pass")
    section, value = ("tool.pytest.ini_options", "'x'") if "toml" in file else ("pytest", "x")
    arguments = []
    if file == "-o":
        arguments = ["-o", f"{key}=x"]
    else:
        (suite.path / file).write_text(f"[{section}]\n{key} = {value}\n")
    result = suite.pytester.runpytest_inprocess(*arguments)
    suite.refused(result, f"there is no key '{key}'")
    meant = {"qemu_buildd": "qemu_build", "qemu_source_arg": "qemu_source_args"}.get(key)
    assert meant is None or f"did you mean '{meant}'?" in " ".join(result.errlines)


def test_a_key_of_another_plugin(suite: "Suite") -> None:
    suite.write(
        "def pytest_addoption(parser): parser.addini('qemu_colour', 'of theirs')", "conftest"
    )
    suite.write("def test_it(): pass")
    (suite.path / "pytest.ini").write_text("[pytest]\nqemu_colour = red\n")
    assert suite.run().ret == 0
