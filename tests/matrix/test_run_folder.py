"""What a run folder's files hold is documented, field by field."""

import enum
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qmptests.builds import Build
from qmptests.matrix.cells import Reason
from qmptests.matrix.results import RunResults, Verdict
from qmptests.matrix.store import Matrix
from qmptests.outcome.record import BuildRecord
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "run-folder.md").read_text()

#: They have pages of their own.
ELSEWHERE = {BuildRecord, Definition, DeviceProfile}


def structs(of: typing.Any) -> set[type[msgspec.Struct]]:
    """Every struct that a type is made of."""
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        hints = typing.get_type_hints(of).values()
        return {of} if of in ELSEWHERE else {of}.union(*map(structs, hints))
    if typing.get_origin(of) is not None or isinstance(of, types.UnionType):
        return set[type[msgspec.Struct]]().union(*map(structs, typing.get_args(of)))
    return set()


FILES = {"cells.json": Matrix, "builds.json": Build, "results.json": RunResults}
STRUCTS = {s.__name__: s for of in FILES.values() for s in structs(of) - ELSEWHERE}


def first_cells(title: str) -> Iterator[str]:
    """The names in the first column of a section's table."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"run-folder.md has no section {title}"
    for cell in re.findall(r"^\| ([^|]*) \|", found[1], re.MULTILINE)[1:]:
        yield from re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_every_field_is_documented_and_no_other(name: str) -> None:
    fields = [field.encode_name for field in msgspec.structs.fields(STRUCTS[name])]
    assert list(first_cells(name)) == fields


def test_the_structs_are_all_of_these() -> None:
    assert set(STRUCTS) == {
        *("Matrix", "Cell", "Build", "Facts", "Machine", "RunResults", "ItemResult"),
    }


@pytest.mark.parametrize(("title", "names"), [("Reasons", Reason), ("Verdicts", Verdict)])
def test_every_reason_and_verdict_is_documented(title: str, names: type[enum.StrEnum]) -> None:
    assert list(first_cells(title)) == [str(name) for name in names]


def test_every_file_is_documented() -> None:
    listed = set(first_cells("The run folder"))
    assert {*FILES, "pytest.log"} <= listed
