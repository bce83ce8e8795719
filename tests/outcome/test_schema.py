"""What `outcome.json` holds is documented: as a JSON Schema, and field by field."""

import enum
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from qmptests.fixtures.migrating import Migration
from qmptests.migration import Phase
from qmptests.outcome import OutcomeRecord, Result, schema

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
COMMITTED = REFERENCE / "outcome.schema.json"
PAGE = (REFERENCE / "outcome.md").read_text()


def structs(of: typing.Any, seen: dict[str, type[msgspec.Struct]]) -> dict[str, typing.Any]:
    """Every struct that `of`, a type, is made of."""
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        if of.__name__ not in seen:
            seen[of.__name__] = of
            for hint in typing.get_type_hints(of).values():
                structs(hint, seen)
    elif typing.get_origin(of) is not None or isinstance(of, types.UnionType):
        for part in typing.get_args(of):
            structs(part, seen)
    return seen


STRUCTS = structs(OutcomeRecord, {})


def section(title: str) -> str:
    """The part of the page below a heading."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"outcome.md has no section {title}"
    return found[1]


def first_cells(title: str) -> Iterator[str]:
    """The names in the first column of a section's table."""
    for cell in re.findall(r"^\| ([^|]*) \|", section(title), re.MULTILINE)[1:]:
        yield from re.findall(r"`([^`]+)`", cell)


def test_the_committed_schema_is_the_generated_one() -> None:
    assert COMMITTED.read_bytes() == schema.generate(), (
        "python -m qmptests.outcome.schema > docs/reference/outcome.schema.json"
    )


@pytest.mark.parametrize("struct", STRUCTS.values(), ids=STRUCTS.keys())
def test_every_field_is_documented_and_no_other(struct: type[msgspec.Struct]) -> None:
    fields = [field.encode_name for field in msgspec.structs.fields(struct)]
    assert list(first_cells(struct.__name__)) == fields


@pytest.mark.parametrize(("title", "names"), [("Results", Result), ("Phases", Phase)])
def test_every_result_and_phase_is_documented(title: str, names: type[enum.StrEnum]) -> None:
    assert list(first_cells(title)) == [str(name) for name in names]


def test_a_real_outcome_is_valid(migration: Callable[..., Migration]) -> None:
    outcome = migration(vm="none").run()
    data = json.loads((outcome.folder / "outcome.json").read_bytes())
    rules = json.loads(COMMITTED.read_bytes())
    jsonschema.Draft202012Validator.check_schema(rules)
    jsonschema.validate(data, rules)
    data["attempts"][0]["times"]["downtime_ms"] = "fast"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, rules)


def test_every_file_of_the_evidence_is_documented(migration: Callable[..., Migration]) -> None:
    outcome = migration().run()
    listed = set(first_cells("Files"))
    present = {path.name for path in outcome.folder.iterdir()}
    assert {re.sub(r"^(source|destination)\b", "SIDE", name) for name in present} <= listed
