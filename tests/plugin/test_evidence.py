"""The names of evidence folders: plain, short enough, and each test's own."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from qmptests.fixtures import evidence

RUN, ROOT = Path("/run"), Path("/root")


def name(nodeid: str, location: str | None = None) -> str:
    within = nodeid.partition("::")[0]
    folder = evidence.folder(RUN, ROOT, within if location is None else location, nodeid)
    return str(folder.relative_to(RUN))


def test_a_test_of_this_checkout() -> None:
    assert name("tests/compat/test_it.py::test_it") == "tests.compat.test_it/test_it"
    assert name("test_it.py::TestIt::test_it[s1-d2-m.q35]") == "test_it/TestIt.test_it-s1-d2-m.q35"


def test_an_installed_suite_is_called_by_its_import_name(tmp_path: Path) -> None:
    """Inside and outside of pytest's root directory, and whatever of the path the node id has."""
    inner = tmp_path / "lib" / "site-packages" / "suites" / "compat"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    file = inner / "test_it.py"
    for root in (tmp_path, tmp_path / "lib" / "other"):
        location = str(file.relative_to(tmp_path)) if root == tmp_path else f"../../{file}"
        location = location if root == tmp_path else "../site-packages/suites/compat/test_it.py"
        for within in ("", "compat/test_it.py", "test_it.py", location):
            found = evidence.folder(RUN, root, location, f"{within}::test_it")
            assert found == RUN / "suites.compat.test_it" / "test_it"


def test_an_inherited_test_is_that_of_its_own_file() -> None:
    """pytest locates it in the file of the class that it was written in."""
    one, two = (name(f"{file}::TestIt::test_it", "base.py") for file in ("one.py", "two.py"))
    assert (one, two) == ("one/TestIt.test_it", "two/TestIt.test_it")


def test_further_migrations_of_a_test_are_nobody_elses() -> None:
    first = RUN / name("test_it.py::test_it[none]")
    assert evidence.repeated(first, 1) == first
    again = evidence.repeated(first, 2)
    assert again.parent == first.parent
    assert again != RUN / name("test_it.py::test_it[none~2]")
    assert again != RUN / name("test_it.py::test_it[none-2]")


def test_what_was_begun_last(tmp_path: Path) -> None:
    first = tmp_path / "it"
    assert evidence.begun(first) == first
    first.mkdir()
    second = evidence.repeated(first, 2)
    assert evidence.begun(first) == second
    second.with_name(f"{second.name}.partial").mkdir()
    assert evidence.begun(first) == second


identifiers = st.text(st.sampled_from("abtT_0ä"), min_size=1, max_size=4)
parts = st.text(st.sampled_from("abt_-.+0 ä"), min_size=1, max_size=4).filter(
    lambda part: part.strip(".")
)
parameters = (
    st.text(max_size=8)
    | st.text(st.sampled_from("ab.-+_:[]/~"), max_size=6)
    | st.text(min_size=190, max_size=300)
)


@st.composite
def nodeids(draw: st.DrawFn) -> str:
    file = "/".join(draw(st.lists(parts, min_size=1, max_size=3))) + ".py"
    test = "::".join(draw(st.lists(identifiers, min_size=1, max_size=2)))
    return f"{file}::{test}" + (f"[{draw(parameters)}]" if draw(st.booleans()) else "")


@given(nodeids(), nodeids())
def test_different_tests_have_different_folders(one: str, two: str) -> None:
    assert (name(one) == name(two)) is (one == two)


@given(nodeids())
def test_names_are_plain_and_not_too_long(nodeid: str) -> None:
    module, test = name(nodeid).split("/")
    for part in (module, test):
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", part)
        assert not part.startswith(".")
        assert not part.endswith(".partial")
        assert len(f"{part}~99.partial") <= 255
